"""The two systems behind one set of verbs, so that each step is written once."""

import os
import signal
import subprocess
import time

from .hosts import IMAGE, Refused, quote, until


class Swarm:
    """Docker Swarm of Debian's docker.io, spoken to over its HTTP API."""

    title = "Docker Swarm"
    process = "engine"

    def __init__(self, lab):
        self.lab = lab

    def form(self):
        first = self.lab.engine(1)
        first.call("POST", "/swarm/init", self._address(1))
        token = first.get("/swarm")["JoinTokens"]["Manager"]
        for host in list(self.lab.hosts())[1:]:
            join = {"RemoteAddrs": [self.lab.ips[0] + ":2377"], "JoinToken": token}
            self.lab.engine(host).call("POST", "/swarm/join", {**self._address(host), **join})
        self.healthy()

    def _address(self, host):
        own = self.lab.ips[host - 1] + ":2377"
        return {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": own}

    def version(self):
        return "Docker " + self.lab.engine(1).get("/version")["Version"]

    def nodes(self, host, timeout=5):
        """hostname → (ready, leader, reachable manager)"""
        found = {}
        for node in self.lab.engine(host, timeout).get("/nodes"):
            manager = node.get("ManagerStatus", {})
            found[node["Description"]["Hostname"]] = (
                node["Status"]["State"] == "ready",
                bool(manager.get("Leader")),
                manager.get("Reachability") == "reachable",
            )
        return found

    def create(self, host, name, replicas, timeout=30):
        """One acknowledged create."""
        spec = {
            "Name": name,
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": IMAGE,
                    "Command": ["sleep", "100000"],
                    "StopGracePeriod": 10**9,
                },
                "RestartPolicy": {"Condition": "any", "Delay": 0},
            },
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        self.lab.engine(host, timeout).call("POST", "/services/create", spec)

    def scale(self, host, name, replicas):
        engine = self.lab.engine(host)
        service = engine.get(f"/services/{name}")
        service["Spec"]["Mode"]["Replicated"]["Replicas"] = replicas
        version = service["Version"]["Index"]
        engine.call("POST", f"/services/{name}/update?version={version}", service["Spec"])

    def remove(self, host, names):
        engine = self.lab.engine(host)
        for name in names:
            try:
                engine.call("DELETE", f"/services/{name}")
            except Refused:
                pass  # a write whose answer was lost, and which did not happen

    def read(self, host, timeout):
        self.lab.engine(host, timeout).get("/services?filters=" + quote("{}"))

    def availability(self, host, node, value):
        engine = self.lab.engine(host)
        for found in engine.get("/nodes"):
            if found["Description"]["Hostname"] == self.lab.name(node):
                found["Spec"]["Availability"] = value
                version = found["Version"]["Index"]
                path = f"/nodes/{found['ID']}/update?version={version}"
                engine.call("POST", path, found["Spec"])

    def healthy(self, limit_s=120):
        """Seconds until every manager sees every other one ready and reachable."""
        return until(lambda: _all_see_all(self), "all managers see each other", limit_s)

    def leader(self):
        return _leader(self)

    def restart(self, host):
        self.lab.run("start-engine", str(host))


class Skep:
    """Skep, spoken to by its command line: the start of a process is in each figure."""

    title = "Skep"
    process = "daemon"

    def __init__(self, lab):
        self.lab = lab
        self.binary = lab.env["SKEP_BIN"]

    def form(self):
        self.run(1, "swarm", "init", "--advertise-addr", self.lab.ips[0])
        token = self.run(1, "swarm", "join-token", "-q", "manager").strip()
        for host in list(self.lab.hosts())[1:]:
            own = self.lab.ips[host - 1]
            remote = self.lab.ips[0] + ":2377"
            self.run(host, "swarm", "join", "--token", token, "--advertise-addr", own, remote)
        self.healthy()

    def run(self, host, *args, timeout=30):
        command = [self.binary, "--socket", self.lab.socks[host - 1]]
        command += ["--timeout", f"{timeout}s", *args]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout + 30,
        )
        if done.returncode:
            raise Refused(f"skep {' '.join(args)}: {done.stderr}")
        return done.stdout

    def version(self):
        done = subprocess.run([self.binary, "--version"], capture_output=True, text=True)
        return done.stdout.strip()

    def nodes(self, host, timeout=5):
        table = "{{.Hostname}}\t{{.Status}}\t{{.ManagerStatus}}"
        found = {}
        for line in self.run(host, "node", "ls", "--format", table, timeout=timeout).splitlines():
            name, status, manager = (line.split("\t") + ["", ""])[:3]
            leads = manager == "Leader"
            found[name] = (status == "Ready", leads, leads or manager == "Reachable")
        return found

    def create(self, host, name, replicas, timeout=30):
        args = ["service", "create", "--detach", "--name", name, "--replicas", str(replicas)]
        args += ["--restart-delay", "0s", "--stop-grace-period", "1s", IMAGE, "sleep", "100000"]
        self.run(host, *args, timeout=timeout)

    def scale(self, host, name, replicas):
        self.run(host, "service", "scale", "--detach", f"{name}={replicas}")

    def remove(self, host, names):
        for start in range(0, len(names), 50):
            try:
                self.run(host, "service", "rm", *names[start : start + 50])
            except Refused:
                pass  # a write whose answer was lost, and which did not happen

    def read(self, host, timeout):
        self.run(host, "service", "ls", "-q", timeout=timeout)

    def availability(self, host, node, value):
        self.run(host, "node", "update", "--availability", value, self.lab.name(node))

    def healthy(self, limit_s=120):
        """Seconds until every manager sees every other one ready and reachable."""
        return until(lambda: _all_see_all(self), "all managers see each other", limit_s)

    def leader(self):
        return _leader(self)

    def restart(self, host):
        self.lab.run("start-daemon", str(host))


def _all_see_all(system):
    try:
        for host in system.lab.hosts():
            good = sum(ready and manager for ready, _, manager in system.nodes(host).values())
            if good < system.lab.count:
                return False
        return True
    except (OSError, Refused, subprocess.TimeoutExpired):
        return False


def _leader(system):
    for host in system.lab.hosts():
        try:
            nodes = system.nodes(host)
        except (OSError, Refused):
            continue
        for other in system.lab.hosts():
            if nodes.get(system.lab.name(other), (0, 0, 0))[1]:
                return other
    raise RuntimeError("nobody leads")


def end(system, host, how):
    """Ends a manager: `kill`, `stop` or `cut`.

    Returns when, a question whether it is gone, and what undoes it.
    """
    if how == "cut":
        start = time.monotonic()
        system.lab.run("cut", str(host))
        return start, lambda: True, lambda: system.lab.run("heal", str(host))
    pid = system.lab.pid(host, system.process)
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)

    def is_gone():
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            return True

    def back():
        until(is_gone, "the process ends", 60)
        system.restart(host)

    return start, is_gone, back
