"""What is measured: each step once, for either system. A step returns its figures."""

import itertools
import subprocess
import threading
import time
import uuid

from .hosts import Refused, cost
from .systems import end

# What a write or a read can fail with while nobody leads.
FAILURES = (OSError, Refused, subprocess.TimeoutExpired)


def leader_ends(system, how, rounds):
    """The leader ends while one client per survivor writes and another reads.

    A round is over once its process is gone and each kind of call that began after
    that was served; its figure is the longest time without such a call served, at
    whichever survivor was first, so that calls served on the way down do not count.
    """
    system.create(1, "kept", 6)
    system.lab.until_running("kept", 6)
    write_s, read_s, touched = [], [], 0
    for _ in range(rounds):
        system.healthy()
        gone = system.leader()
        rest = [host for host in system.lab.hosts() if host != gone]
        before = system.lab.containers("kept", rest)
        names, lock, stop = [], threading.Lock(), threading.Event()
        start, is_gone, back = end(system, gone, how)
        served, after = {"write": [start], "read": [start]}, set()

        def client(host, kind):
            while not stop.is_set():
                began_after = is_gone()
                try:
                    if kind == "write":
                        name = "w" + uuid.uuid4().hex[:12]
                        names.append(name)
                        system.create(host, name, 0, timeout=10)
                    else:
                        system.read(host, timeout=10)
                    with lock:
                        served[kind].append(time.monotonic())
                        if began_after:
                            after.add(kind)
                except FAILURES:
                    pass
                time.sleep(0.02)

        threads = [
            threading.Thread(target=client, args=(host, kind))
            for host in rest
            for kind in ("write", "read")
        ]
        for thread in threads:
            thread.start()
        limit = time.monotonic() + 90
        while len(after) < 2 and time.monotonic() < limit:
            time.sleep(0.005)
        stop.set()
        for thread in threads:
            thread.join()
        for kind, figures in (("write", write_s), ("read", read_s)):
            times = sorted(served[kind])
            gap = max((b - a for a, b in itertools.pairwise(times)), default=90.0)
            figures.append(gap if kind in after else 90.0)
        touched += len(before - system.lab.containers("kept", rest))
        back()
        system.healthy()
        system.remove(system.leader(), names)
    system.remove(1, ["kept"])
    system.lab.until_running("kept", 0)
    return {
        f"leader {how}: no write for, s": write_s,
        f"leader {how}: no read for, s": read_s,
        f"leader {how}: containers touched on other hosts": [touched],
    }


def host_lost(system, rounds):
    """A host that does not lead dies with all its containers."""
    figures = []
    for _ in range(rounds):
        system.healthy()
        leader = system.leader()
        lost = leader % system.lab.count + 1
        rest = [host for host in system.lab.hosts() if host != lost]
        system.create(leader, "lost", 6)
        system.lab.until_running("lost", 6)
        time.sleep(1)
        start = time.monotonic()
        system.lab.run("kill", str(lost))
        system.lab.until_running("lost", 6, rest)
        figures.append(time.monotonic() - start)
        system.lab.run("start", str(lost))
        system.healthy()
        system.remove(leader, ["lost"])
        system.lab.until_running("lost", 0)
    return {"host lost: its replicas run elsewhere, s": figures}


def create(system, count, rounds):
    """A service of `count` replicas, beside the same containers straight at the engines."""
    system.healthy()
    service_s, straight_s = [], []
    for _ in range(rounds):
        leader = system.leader()
        start = time.monotonic()
        system.create(leader, "many", count)
        system.lab.until_running("many", count)
        service_s.append(time.monotonic() - start)
        system.remove(leader, ["many"])
        system.lab.until_running("many", 0)
        time.sleep(2)
        straight_s.append(system.lab.straight(count))
        time.sleep(2)
    return {
        f"create {count}: all run, s": service_s,
        f"create {count}: straight at the engines, s": straight_s,
        f"create {count}: times the engines' own": [
            a / b for a, b in zip(service_s, straight_s, strict=True)
        ],
    }


def scale(system, rounds):
    """10 → 30 → 10."""
    up_s, down_s = [], []
    for _ in range(rounds):
        leader = system.leader()
        system.create(leader, "scaled", 10)
        system.lab.until_running("scaled", 10)
        for count, figures in ((30, up_s), (10, down_s)):
            start = time.monotonic()
            system.scale(leader, "scaled", count)
            system.lab.until_running("scaled", count)
            figures.append(time.monotonic() - start)
        system.remove(leader, ["scaled"])
        system.lab.until_running("scaled", 0)
    return {"scale 10 to 30, s": up_s, "scale 30 to 10, containers gone, s": down_s}


def drain(system, rounds):
    """One of three hosts with 12 replicas on them is drained."""
    figures = []
    for _ in range(rounds):
        leader = system.leader()
        drained = leader % system.lab.count + 1
        rest = [host for host in system.lab.hosts() if host != drained]
        system.create(leader, "drained", 12)
        system.lab.until_running("drained", 12)
        start = time.monotonic()
        system.availability(leader, drained, "drain")
        system.lab.until_running("drained", 12, rest)
        figures.append(time.monotonic() - start)
        system.availability(leader, drained, "active")
        system.remove(leader, ["drained"])
        system.lab.until_running("drained", 0)
    return {"drain a host with 4 of 12: 12 run elsewhere, s": figures}


def resident(system, services, seconds):
    """Memory and idle CPU of the leader's daemon with many services."""
    system.healthy()
    leader = system.leader()
    names = [f"idle{n}" for n in range(services)]
    start = time.monotonic()
    for name in names:
        system.create(leader, name, 0)
    create_ms = 1000 * (time.monotonic() - start) / services
    time.sleep(5)
    memory, cpu = [], []
    for host in system.lab.hosts():
        mib, percent = cost(system.lab.pid(host, system.process), seconds)
        memory.append(mib)
        cpu.append(percent)
    system.remove(leader, names)
    return {
        "create a service, one after the other, ms": [create_ms],
        f"daemon with {services} services: resident, MiB": memory,
        f"daemon with {services} services: idle, % of a core": cpu,
    }
