"""Hosts of a lab, and what their engines run, asked over the Docker API.

The same questions are put to both systems: containers are counted at the engines by
the labels that Swarm gives them and Skep too, so neither is taken at its word.
"""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
IMAGE = "localhost:1/bench/web:1"
API = "/v1.41"
POLL_S = 0.02


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Refused(Exception):
    """An answer other than success."""


class Engine:
    """One kept connection to a Docker Engine; not for several threads."""

    def __init__(self, path, timeout=30):
        self.connection = UnixConnection(path, timeout)

    def call(self, method, path, body=None):
        try:
            self.connection.request(
                method,
                API + path,
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json"},
            )
            answer = self.connection.getresponse()
            data = answer.read()
        except Exception:
            self.connection.close()
            raise
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data) if data else None

    def get(self, path):
        return self.call("GET", path)

    def running(self, service):
        """Ids of the running containers of a service."""
        wanted = json.dumps({"label": [f"com.docker.swarm.service.name={service}"]})
        found = self.get("/containers/json?filters=" + quote(wanted))
        return {container["Id"] for container in found}


def quote(text):
    from urllib.parse import quote as percent

    return percent(text)


class Lab:
    """A lab of `count` hosts, by deploy/lab; a context manager."""

    def __init__(self, count, engines_only, binary=None):
        self.count = count
        self.engines_only = engines_only
        self.env = dict(os.environ)
        self.env.setdefault("SKEP_LAB_PREFIX", "bench")
        self.env.setdefault("SKEP_LAB_SUBNET", "10.97.0")
        self.env.setdefault("SKEP_LAB_LOG_LEVEL", "warn")
        if binary:
            self.env["SKEP_BIN"] = binary
        self.prefix = self.env["SKEP_LAB_PREFIX"]

    def __enter__(self):
        self.run("up", str(self.count), *(["--engines"] if self.engines_only else []))
        self.run("image", "--build-web", IMAGE)
        self.engines = [self.run("engine", str(n)) for n in self.hosts()]
        self.ips = [self.run("ip", str(n)) for n in self.hosts()]
        if not self.engines_only:
            self.socks = [self.run("sock", str(n)) for n in self.hosts()]
        return self

    def __exit__(self, *_):
        self.run("down")

    def hosts(self):
        return range(1, self.count + 1)

    def run(self, *args):
        done = subprocess.run(
            [str(ROOT / "deploy/lab"), *args],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
        if done.returncode:
            raise RuntimeError(f"lab {' '.join(args)}: {done.stderr}")
        return done.stdout.strip()

    def engine(self, host, timeout=30):
        return Engine(self.engines[host - 1], timeout)

    def name(self, host):
        return f"{self.prefix}{host}"

    def pid(self, host, what):
        return int(self.run("pid", str(host), what))

    def containers(self, service, hosts=None):
        """Ids of a service's running containers on hosts (all of them)."""
        found = set()
        for host in hosts or self.hosts():
            found |= self.engine(host).running(service)
        return found

    def until_running(self, service, count, hosts=None, limit_s=180):
        """Seconds until exactly `count` containers of `service` run on `hosts`."""
        engines = [self.engine(host) for host in hosts or self.hosts()]

        def enough():
            return sum(len(engine.running(service)) for engine in engines) == count

        return until(enough, f"{count} containers of {service} run", limit_s)

    def straight(self, count, in_flight=8):
        """Seconds to create and start `count` containers straight at the engines."""
        todo = {host: [] for host in self.hosts()}
        for n in range(count):
            todo[n % self.count + 1].append(n)
        made, failed = [], []

        def work(host, share):
            engine = self.engine(host, 120)
            try:
                while True:
                    try:
                        share.pop()
                    except IndexError:
                        return
                    spec = {"Image": IMAGE, "Cmd": ["sleep", "100000"]}
                    ident = engine.call("POST", "/containers/create", spec)["Id"]
                    engine.call("POST", f"/containers/{ident}/start")
                    made.append((host, ident))
            except Exception as error:  # told below, in the main thread
                failed.append(error)

        start = time.monotonic()
        threads = [
            threading.Thread(target=work, args=(host, todo[host]))
            for host in self.hosts()
            for _ in range(in_flight)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - start
        for host, ident in made:
            self.engine(host).call("DELETE", f"/containers/{ident}?force=1")
        if failed or len(made) != count:
            raise RuntimeError(f"{len(made)} of {count} containers: {failed[:1]}")
        return took


def until(check, what, limit_s):
    """Seconds until `check` holds."""
    start = time.monotonic()
    while True:
        if check():
            return time.monotonic() - start
        if time.monotonic() - start > limit_s:
            raise RuntimeError(f"not so after {limit_s} s: {what}")
        time.sleep(POLL_S)


def cost(pid, seconds):
    """(resident MiB, CPU in percent of a core over `seconds`) of a process."""

    def ticks():
        text = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")

    before, start = ticks(), time.monotonic()
    time.sleep(seconds)
    cpu = 100 * (ticks() - before) / (time.monotonic() - start)
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024, cpu
    raise RuntimeError(f"process {pid} has no memory")
