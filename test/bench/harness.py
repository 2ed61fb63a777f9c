"""What all benchmarks share: sessions, pgbench, the bare rival, rounds, statistics and tables."""
import json
import os
import statistics
import subprocess
import sys
import threading
import time

WORK = os.environ["BENCH_WORK"]
BINDIR = os.environ["BENCH_BINDIR"]
ROUNDS = int(os.environ["BENCH_ROUNDS"])
QUICK = os.environ["BENCH_QUICK"] == "1"
INSIDE = os.environ["BENCH_INSIDE"] == "1"
SERVER_USER = os.environ["BENCH_USER"]
SOCKET = os.environ.get("BENCH_SOCKET", WORK + "/sock")
SPIN_ROUNDS = 60_000_000


def port(name):
    return os.environ[name.upper()]


def simulator():
    with open(WORK + "/out/sim.json") as file:
        return json.load(file)


# ---- sessions ----

def psql_command(*more):
    return [BINDIR + "/psql", "-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", SOCKET,
            "-U", "postgres", "-d", "postgres", *more]


class Session:
    """One backend, kept open.  run() returns the rows of the statement as lists of strings."""

    END = "--end--"

    def __init__(self, errors=None):
        self.process = subprocess.Popen(psql_command(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=errors, text=True)
        self.pid = int(self.run("SELECT pg_backend_pid()")[0][0])

    def send(self, sql):
        self.process.stdin.write(sql.rstrip(";") + ";\n\\echo " + self.END + "\n")
        self.process.stdin.flush()

    def receive(self):
        rows = []
        while True:
            line = self.process.stdout.readline()
            if line == "":
                raise RuntimeError("a session died; see the messages above")
            if line.rstrip("\n") == self.END:
                return rows
            rows.append(line.rstrip("\n").split("\t"))

    def run(self, sql):
        self.send(sql)
        return self.receive()

    def numbers(self, sql):
        """The first row, as floats."""
        return [float(value) for value in self.run(sql)[0]]

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def at_once(count, sql_of, warm_up=None):
    """Run sql_of(i) in `count` sessions that start together.  Their first rows, and the seconds.

    `warm_up` is what each session runs before.
    """
    with Session() as starter:
        starter.run("SELECT pg_advisory_lock(1)")
        sessions = [Session() for _ in range(count)]
        for session in sessions if warm_up else []:
            session.run(warm_up)
        for i, session in enumerate(sessions):
            session.send("SELECT pg_advisory_lock_shared(1) IS NULL")
            session.send(sql_of(i))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while starter.run(waiting)[0][0] != str(count):
            time.sleep(0.01)
        began = time.monotonic()
        starter.run("SELECT pg_advisory_unlock(1)")
        rows = []
        for session in sessions:
            session.receive()
            rows.append(session.receive()[0])
        seconds = time.monotonic() - began
        for session in sessions:
            session.close()
    return rows, seconds


def pgbench(script, clients, seconds, log=False, options=(), settings=()):
    """Transactions per second of a script; with `log` the latencies in microseconds as well."""
    path = WORK + "/out/script.sql"
    with open(path, "w") as file:
        file.write(script)
    prefix = WORK + "/out/latency"
    command = [BINDIR + "/pgbench", "-n", "-f", path, "-c", str(clients), "-j",
               str(min(clients, 2)), "-T", str(seconds), "-M", "prepared", "-h", SOCKET,
               "-U", "postgres", *options]
    if log:
        command += ["-l", "--log-prefix", prefix]
    environment = {**os.environ, "PGOPTIONS": " ".join("-c " + setting for setting in settings)}
    done = subprocess.run(command + ["postgres"], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError("pgbench failed: " + done.stderr)
    tps = float(next(line for line in done.stdout.splitlines() if line.startswith("tps")).split()[2])
    latencies = []
    for name in os.listdir(WORK + "/out"):
        if name.startswith("latency."):
            with open(f"{WORK}/out/{name}") as file:
                latencies += [int(line.split()[2]) for line in file]
            os.unlink(f"{WORK}/out/{name}")
    return (tps, sorted(latencies)) if log else tps


bare_failures = 0


def bare(url, **options):
    """Run the bare rival; keyword → --option, True for a flag.

    A few calls may fail: a bare libcurl loses some when many HTTP/2 streams open at once.
    """
    global bare_failures
    command = [WORK + "/bare", "--url", url]
    for name, value in options.items():
        if value is True:
            command.append("--" + name)
        elif value is not False:
            command += ["--" + name, str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    result = json.loads(done.stdout) if done.stdout else {"failed": 1, "calls": 1}
    if result["failed"] * 20 > result["calls"]:
        raise RuntimeError("bare failed: " + done.stdout + done.stderr)
    bare_failures += result["failed"]
    return result


# ---- statistics ----

def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Figure:
    """One figure of several rounds."""

    def __init__(self, values=()):
        self.values = list(values)

    def add(self, value):
        self.values.append(value)

    @property
    def median(self):
        return statistics.median(self.values)

    def over(self, other):
        """Ratio round by round: both sides of a round ran next to each other."""
        return Figure(a / b for a, b in zip(self.values, other.values))

    def minus(self, other):
        return Figure(a - b for a, b in zip(self.values, other.values))

    def scaled(self, factor):
        return Figure(value * factor for value in self.values)

    def __str__(self):
        if not self.values:
            return "–"
        low, high = min(self.values), max(self.values)
        if low == high:
            return number(low)
        return f"{number(self.median)} ({number(low)}–{number(high)})"


def number(value):
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


class Figures(dict):
    """Figures by name, made when first used."""

    def __missing__(self, key):
        self[key] = Figure()
        return self[key]


# ---- tables ----

def print_table(title, header, rows, note=""):
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[c]) for row in cells) for c in range(len(header))]
    print(f"\n{title}\n")
    for r, row in enumerate(cells):
        line = " | ".join(cell.ljust(width) for cell, width in zip(row, widths))
        print("| " + line + " |")
        if r == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    if note:
        print("\n" + note)
    sys.stdout.flush()


verdicts = []


def judge(what, target, figure, at_most=True, rival=None):
    """Compare with a target.

    The verdict says so when the rounds do not agree, and when the bare rival, which does less, fails
    the target as well: then it is the machine or libcurl, not pgllm.
    """
    if not figure.values:
        verdicts.append((what, target, "not measured", "–", "–"))
        return
    met = [value <= target if at_most else value >= target for value in figure.values]
    ok = figure.median <= target if at_most else figure.median >= target
    verdict = "met" if ok else "MISSED"
    if any(met) and not all(met):
        verdict += ", rounds differ"
    if not ok and rival and (rival.median > target if at_most else rival.median < target):
        verdict += ", bare too"
    sign = "≤" if at_most else "≥"
    ratio = number(figure.median / target) + "×" if target else "–"
    verdicts.append((what, f"{sign} {number(target)}", figure, ratio, verdict))


# ---- noise ----

def busy_cores(seconds=0.5):
    """Cores at work now, while we sleep: what others do on this machine."""
    def read():
        with open("/proc/stat") as file:
            fields = [int(value) for value in file.readline().split()[1:]]
        return sum(fields) - fields[3] - fields[4]
    before = read()
    time.sleep(seconds)
    return (read() - before) / os.sysconf("SC_CLK_TCK") / seconds


class Noise:
    """A fixed loop and the load, taken before, between and after the rounds of a benchmark."""

    def __init__(self):
        self.loops = Figure()
        self.stolen = Figure()
        self.foreign = Figure()
        self.sample()

    def sample(self):
        self.foreign.add(busy_cores())
        done = subprocess.run([WORK + "/bare", "--spin", str(SPIN_ROUNDS)], capture_output=True,
                              text=True, check=True)
        loop = json.loads(done.stdout)
        self.loops.add(loop["wall_us"] / 1000)
        self.stolen.add(loop["wall_us"] / loop["cpu_us"])

    def __str__(self):
        best = min(self.loops.values)
        return (f"Noise: fixed loop {number(best)} ms at best, others "
                f"{number(max(self.loops.values) / best)}× at worst; its wall ÷ CPU "
                f"{self.stolen}; cores busy with other work {self.foreign}; "
                f"load average {os.getloadavg()[0]:.2f}.")


def rounds(noise, body, count=None):
    """Run body(round) so often; the noise is sampled in between."""
    for i in range(count or ROUNDS):
        body(i)
        noise.sample()


def watch(function, seconds, every=0.1):
    """Call function in the background for a while; its results."""
    results = []
    stop = time.monotonic() + seconds

    def loop():
        while time.monotonic() < stop:
            results.append(function())
            time.sleep(every)
    thread = threading.Thread(target=loop)
    thread.start()
    return thread, results
