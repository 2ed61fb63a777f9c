"""What other processes are started, and what they use: CPU, memory, and their end.

Owns every process that it starts: each has a log, an end of its own (timeout) and is stopped by its
process id, with whatever it started itself.  Figures come from /proc of exactly the given processes.
"""
import http.client
import os
import resource
import subprocess
import time

import harness

LIMIT_S = int(os.environ["BENCH_LIMIT_S"])
TICKS = os.sysconf("SC_CLK_TCK")


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name: state, parent, …; None if it has gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def family(root):
    """A process and all its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat_fields(name)):
            parents[int(name)] = int(fields[1])
    members = [root]
    for pid in members:
        members += [child for child, parent in parents.items() if parent == pid]
    return members


def cpu_us(pids):
    """CPU time so far.  The scheduler's own account is exact but forgets threads that ended; the
    ticks know those, in steps of 10 ms."""
    total = 0
    for pid in pids:
        fields = stat_fields(pid)
        if fields is None:
            continue
        ticks = (int(fields[11]) + int(fields[12])) * 1e6 / TICKS
        exact = 0
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    exact += int(file.read().split()[0]) / 1000
        except OSError:
            pass
        total += max(ticks, exact)
    return total


def pss_kb(pids):
    """Proportional memory: pages that several map are divided among them."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            pass
    return total


class Finished:
    """A program that ran to its end: its output, and what it used."""

    def __init__(self, command, environment=None):
        with open(harness.WORK + "/out/program.log", "a") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                                       env={**os.environ, **(environment or {})})
            self.output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.status = process.returncode
        self.cpu_us = (usage.ru_utime + usage.ru_stime) * 1e6
        self.rss_kb = usage.ru_maxrss


class Server:
    """A server in the background.  `ready` is the path of a GET that tells that it serves; None: it
    does when it accepts a connection."""

    def __init__(self, name, command, port, ready, environment, patience_s=300):
        self.name = name
        self.port = port
        self.log = f"{harness.WORK}/out/{name}.log"
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(["timeout", str(LIMIT_S), *command], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True, cwd=harness.WORK + "/out",
                                            env={**os.environ, **environment})
        running.append(self)
        try:
            self.wait_until_ready(ready, time.monotonic() + patience_s)
        except RuntimeError:
            self.stop()
            raise

    def wait_until_ready(self, path, deadline):
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start: see {self.log}")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                connection.connect()
                if path is None:
                    return
                connection.request("GET", path)
                if connection.getresponse().status < 500:
                    return
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.2)

    def pids(self):
        return family(self.process.pid)

    def stop(self):
        if self in running:
            running.remove(self)
        members = self.pids()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in members[1:]:
            # still one of ours?  The session is the one that the server began.
            fields = stat_fields(pid)
            if fields and int(fields[3]) == self.process.pid:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass


running = []


def stop_all():
    for server in list(running):
        server.stop()


def free_port():
    import socket
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
