"""(h) What statements without calls pay for a library that looks at every plan.

The same data directory twice: as it is, and copied for a server without the library.  Timing resolves a
per cent only with many short rounds on a quiet machine, so valgrind counts instructions as well, in
single-user mode: there they are the same in every run, to about a thousandth, and no counters of the
processor are needed.  What is counted is `planner()` with all it calls, hooks among them, and whole
statements.
"""
import re

from harness import *

SECONDS = 1                         # of one side of a pair
TURNS = 2 if QUICK else 6           # pairs per round
EXECUTIONS = 5 if QUICK else 10     # of each query in a count
COUNTS = 9                          # the median of so many
PARTITIONS = 200
STOCK_PORT = "5433"
LIBRARIES = {"stock": "", "pgllm": "pgllm"}

SET_UP = f"""
    CREATE SCHEMA planning;
    CREATE TABLE planning.item AS
        SELECT i AS id, i % 100 AS kind, md5(i::text) AS body FROM generate_series(1, 10000) AS i;
    ALTER TABLE planning.item ADD PRIMARY KEY (id);
    CREATE INDEX ON planning.item (kind);
    CREATE TABLE planning.a AS SELECT i AS id, i % 10 AS b FROM generate_series(1, 1000) AS i;
    CREATE TABLE planning.b AS SELECT i AS id, i % 10 AS c FROM generate_series(0, 9) AS i;
    CREATE TABLE planning.c AS SELECT i AS id, i % 10 AS d FROM generate_series(0, 9) AS i;
    CREATE TABLE planning.d AS SELECT i AS id, 'd' || i AS name FROM generate_series(0, 9) AS i;
    CREATE TABLE planning.part (id int, day int, body text) PARTITION BY RANGE (day);
    SELECT format('CREATE TABLE planning.part_%s PARTITION OF planning.part '
                  'FOR VALUES FROM (%s) TO (%s)', i, i, i + 1)
    FROM generate_series(1, {PARTITIONS}) AS i \\gexec
    VACUUM ANALYZE;"""
QUERIES = {
    "simple": ("select of a filter and two functions",
               "SELECT id, upper(body), kind + 1 FROM planning.item "
               "WHERE kind = 5 AND length(body) > 3 ORDER BY id LIMIT 1"),
    "join": ("five-way join",
             "SELECT i.id, d.name, lower(i.body) FROM planning.item AS i JOIN planning.a ON a.id = i.kind "
             "JOIN planning.b ON b.id = a.b JOIN planning.c ON c.id = b.c JOIN planning.d ON d.id = c.d "
             "WHERE i.id = 17 AND d.name <> 'd99'"),
    "partitions": (f"{PARTITIONS} partitions, none pruned",
                   "SELECT id, upper(body) FROM planning.part WHERE id = 5 AND length(body) > 3"),
    "point": ("row by primary key", "SELECT body FROM planning.item WHERE id = 4711"),
}
POINT = "\\set id random(1, 10000)\nSELECT body FROM planning.item WHERE id = :id;\n"


# ---- servers ----

def as_server(*command, **options):
    return subprocess.run(["setpriv", f"--reuid={SERVER_USER}", f"--regid={SERVER_USER}", "--init-groups",
                           *command], **options)


def pg_ctl(data, *command):
    as_server("setsid", BINDIR + "/pg_ctl", "-D", data, "-l", WORK + "/out/postgres.log", "-s", "-w",
              *command, check=True, stdout=subprocess.DEVNULL)


def copy_data(name):
    """A copy of the data directory, of a server that is stopped."""
    subprocess.run(["cp", "-a", WORK + "/data", WORK + "/" + name], check=True)
    return WORK + "/" + name


# ---- time ----

def latency(side, script, mode):
    """Mean microseconds of a transaction."""
    options = ("-M", mode) + (("-p", STOCK_PORT) if side == "stock" else ())
    return 1e6 / pgbench(script, 1, SECONDS, options=options)


def pair(figures, key, script, mode, turn):
    """One side right after the other; they take turns in being the first."""
    for side in sorted(LIBRARIES, reverse=turn % 2 == 0):
        figures["us", side, key].add(latency(side, script, mode))


def time_all(figures, noise):
    def one_round(_):
        for turn in range(TURNS):
            for key, (_, query) in QUERIES.items():
                pair(figures, key, f"EXPLAIN {query};\n", "simple", turn)
            for mode in ("simple", "prepared"):
                pair(figures, "pgbench " + mode, POINT, mode, turn)
    rounds(noise, one_round)


# ---- instructions ----

def count(data, side, *collect):
    """Instructions of one execution of each query, by its key.

    One single-user server executes them all.  Callgrind writes what it has counted, and begins anew,
    whenever pg_sleep is called; that adds the same small part of a statement to every count.  What
    comes by the clock, as reports of statistics, is in some counts only, and not in their median.
    """
    block = "{query}\n" * EXECUTIONS + "SELECT pg_sleep(0)\n"
    out = data + "/callgrind"
    done = as_server("valgrind", "--tool=callgrind", "--callgrind-out-file=" + out,
                     "--dump-before=pg_sleep", *collect, BINDIR + "/postgres", "--single", "-D", data,
                     "-c", "shared_preload_libraries=" + LIBRARIES[side], "postgres",
                     input="".join(block.format(query=query) * (1 + COUNTS)
                                   for _, query in QUERIES.values()),
                     capture_output=True, text=True, cwd=data)
    if done.returncode != 0 or "ERROR:" in done.stderr:
        raise RuntimeError("counting instructions failed: " + done.stderr[-2000:])
    counts = {}
    for i, key in enumerate(QUERIES):
        totals = []
        # the first block fills caches
        for dump in range(i * (1 + COUNTS) + 2, (i + 1) * (1 + COUNTS) + 1):
            with open(f"{out}.{dump}") as file:
                totals.append(int(re.search(r"^totals: (\d+)", file.read(), re.M)[1]))
        counts[key] = statistics.median(totals) / EXECUTIONS
    return counts


def count_all(figures, data):
    for what, collect in (("planner", ["--toggle-collect=planner"]), ("statement", [])):
        for side in LIBRARIES:
            for key, value in count(data, side, *collect).items():
                figures[what, side, key].add(value)


# ---- report ----

def percent(figures, what, key):
    """What pgllm adds, in per cent, pair by pair."""
    over = figures[what, "pgllm", key].over(figures[what, "stock", key])
    return Figure((value - 1) * 100 for value in over.values)


def spread(figure):
    """Median and the error of the median, as most of many short rounds tell of the neighbours."""
    if len(figure.values) < 4:
        return f"{figure.median:+.2f}"
    quarters = statistics.quantiles(figure.values, n=4)
    error = 0.93 * (quarters[2] - quarters[0]) / len(figure.values) ** 0.5
    return f"{figure.median:+.2f} ± {error:.2f}"


def print_times(figures):
    rows = []
    for key, title in [*((key, "EXPLAIN: " + title) for key, (title, _) in QUERIES.items()),
                       ("pgbench simple", "row by primary key, pgbench -M simple"),
                       ("pgbench prepared", "row by primary key, pgbench -M prepared")]:
        rows.append([title, *(f"{figures['us', side, key].median:.1f}" for side in LIBRARIES),
                     spread(percent(figures, "us", key))])
    print_table(f"(h1) Latency over the socket, one client, "
                f"{len(figures['us', 'stock', 'point'].values)} interleaved pairs; µs",
                ["statement", "stock", "pgllm", "added, %"], rows,
                "± is the standard error of the median.")


def print_instructions(figures):
    rows = []
    for key, (title, _) in QUERIES.items():
        for what in ("planner", "statement"):
            rows.append([title, "planner()" if what == "planner" else "whole statement",
                         *(f"{figures[what, side, key].median:,.0f}" for side in LIBRARIES),
                         f"{figures[what, 'pgllm', key].minus(figures[what, 'stock', key]).median:+,.0f}",
                         spread(percent(figures, what, key))])
    print_table("(h2) Instructions of one execution, single user",
                ["statement", "of", "stock", "pgllm", "added", "added, %"], rows)


def main():
    figures = Figures()
    noise = Noise()
    subprocess.run(psql_command(), input=SET_UP, text=True, check=True, stdout=subprocess.DEVNULL)
    pg_ctl(WORK + "/data", "-m", "fast", "stop")
    stock, counted = copy_data("data_stock"), copy_data("data_counted")
    pg_ctl(WORK + "/data", "start")
    pg_ctl(stock, "-o", f"-p {STOCK_PORT} -c shared_preload_libraries=", "start")
    try:
        time_all(figures, noise)
    finally:
        pg_ctl(stock, "-m", "immediate", "stop")
    count_all(figures, counted)
    print_times(figures)
    print_instructions(figures)
    print("\n" + str(noise))
    for key, (title, _) in QUERIES.items():
        judge(f"instructions of planner() added, {title}, %", 1, percent(figures, "planner", key))
    judge("instructions of a statement added, row by primary key, %", 1,
          percent(figures, "statement", "point"))
    for mode in ("simple", "prepared"):
        judge(f"latency added, row by primary key, pgbench -M {mode}, %", 1,
              Figure([percent(figures, "us", "pgbench " + mode).median]))
