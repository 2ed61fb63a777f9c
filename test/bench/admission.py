"""(a) Admissions per second, and that none is given away.

Three layers of the same thing: the decision alone (inside/admissions.c), the whole llm_invoke with a
provider that answers in process and at once, and the rivals that a DBA could build from SQL.
"""
from harness import *

SECONDS = 1 if QUICK else 2
ALONE_MS = 500 if QUICK else 1000
CALLS = 100  # per statement
BACKENDS = (1, 8, 32)
PER_OCTAVE = 32


def value_of_class(index):
    """Nanoseconds at the upper end of a class of inside/admissions.c."""
    if index < PER_OCTAVE:
        return index
    octave = index // PER_OCTAVE + 4
    return (PER_OCTAVE + index % PER_OCTAVE + 1) << (octave - 5)


def histogram_percentile(histogram, share):
    rank = sum(histogram) * share
    seen = 0
    for index, count in enumerate(histogram):
        seen += count
        if seen >= rank:
            return value_of_class(index) / 1000
    return 0


def decide_alone(backends, tenant_of, plan_each):
    """Decisions per second, p50 and p99 in microseconds, refused."""
    rows, _ = at_once(backends, lambda i: (
        f"SELECT decisions, admitted, array_to_string(histogram, ',') FROM "
        f"bench_admissions('{tenant_of(i)}', {ALONE_MS}, {plan_each})"))
    decisions = sum(int(row[0]) for row in rows)
    merged = [sum(column) for column in zip(*([int(x) for x in row[2].split(",")] for row in rows))]
    return (decisions * 1000 / ALONE_MS, histogram_percentile(merged, 0.5),
            histogram_percentile(merged, 0.99))


def hot(_):
    return "hot"


def distinct(i):
    return f"d{i}"


def typical(_):
    return "typical"


def pure(figures):
    if not INSIDE:
        return
    for backends in BACKENDS:
        for name, tenant_of in (("hot", hot), ("distinct", distinct), ("typical", typical)):
            for plan_each in (False, True):
                key = (backends, name, plan_each)
                rate, p50, p99 = decide_alone(backends, tenant_of, plan_each)
                figures["rate", *key].add(rate)
                figures["p50", *key].add(p50)
                figures["p99", *key].add(p99)


def calls_per_second(backends, tenant):
    script = f"SELECT count(llm_invoke({tenant}, 'x')) FROM generate_series(1, {CALLS});"
    return pgbench(script, backends, SECONDS) * CALLS


def rivals(figures, backends):
    figures["row", backends].add(CALLS * pgbench(
        f"CALL bench_take_row(0, {CALLS});", backends, SECONDS,
        options=["-M", "simple"]))
    figures["row_distinct", backends].add(CALLS * pgbench(
        f"CALL bench_take_row(:client_id, {CALLS});", backends, SECONDS,
        options=["-M", "simple"]))
    figures["advisory", backends].add(CALLS * pgbench(
        "SELECT count(CASE WHEN pg_advisory_lock(7) IS NOT NULL THEN pg_advisory_unlock(7) END) "
        f"FROM generate_series(1, {CALLS});", backends, SECONDS))


def whole(figures):
    for backends in BACKENDS:
        figures["invoke_hot", backends].add(calls_per_second(backends, "'hot'"))
        figures["invoke_distinct", backends].add(calls_per_second(backends, "'d' || :client_id"))
        figures["invoke_typical", backends].add(calls_per_second(backends, "'typical'"))
        rivals(figures, backends)


OVER_TRIES = 200


def count_admitted(tenant, backends):
    """Admitted calls of many backends that all try at once, and how long it took."""
    sql = (f"SELECT count(*) FILTER (WHERE r.sqlstate IS NULL) FROM generate_series(1, {OVER_TRIES})"
           f" AS g, LATERAL llm_try_invoke('{tenant}', 'x' || g) AS r")
    rows, seconds = at_once(backends, lambda i: sql)
    return sum(int(row[0]) for row in rows), seconds


def over_admission(figures, i):
    limit = 1000
    admitted, seconds = count_admitted(f"strict{i}", 32)
    if seconds < 60:
        figures["over_strict"].add(max(0, admitted - limit))
        figures["under_strict"].add(max(0, limit - admitted))


def bucket_admission(figures, i):
    """A bucket of 60,000 a minute that starts full and refills: an upper bound in time."""
    sql = f"SELECT first FROM bench_statement('SELECT count(llm_invoke(''bucket{i}'', ''x'')) " \
          "FROM generate_series(1, 59000)')"
    with Session() as session:
        began = time.monotonic()
        first = session.numbers(sql)[0]
        admitted, _ = count_admitted(f"bucket{i}", 32)
        seconds = time.monotonic() - began
    figures["over_bucket"].add(max(0, first + admitted - 60000 - 1000 * seconds - 1))
    figures["bucket_seen"].add(first + admitted)


def print_pure(figures):
    if not INSIDE:
        return
    rows = []
    for backends in BACKENDS:
        for name in ("hot", "distinct", "typical"):
            for plan_each in (False, True):
                key = (backends, name, plan_each)
                rows.append([backends, name, "yes" if plan_each else "no", figures["rate", *key],
                             figures["p50", *key], figures["p99", *key]])
    print_table(
        "(a1) Decision + routing + settlement alone, from inside", ["backends", "bucket",
        "plan per call", "per second, all backends", "p50 µs", "p99 µs"], rows,
        "hot: one quota (requests and tokens) for all; distinct: one each; typical: two quotas and a "
        "strict limit of the\nprovider, requests and tokens each.  p99 with more backends than cores "
        "includes being scheduled out.")


def print_whole(figures):
    names = [("pgllm, hot bucket", "invoke_hot"), ("pgllm, distinct buckets", "invoke_distinct"),
             ("pgllm, typical limits", "invoke_typical"),
             ("row token bucket, hot row, sync off", "row"),
             ("row token bucket, distinct rows, sync off", "row_distinct"),
             ("advisory lock + unlock, hot key", "advisory")]
    rows = []
    for title, key in names:
        rows.append([title, *(figures[key, backends] for backends in BACKENDS),
                     figures["invoke_hot", 8].over(figures[key, 8])])
    print_table(
        "(a2) llm_invoke from SQL, provider mock without latency, against rivals from SQL; per second",
        ["what", *(f"{backends} backends" for backends in BACKENDS), "pgllm hot ÷ this, 8 backends"],
        rows,
        f"pgllm does the whole call (arguments, plan, decision, provider, settlement, counters), {CALLS} "
        "per statement;\nthe rivals only take a token: the row in a procedure that commits each take, "
        "without a client round trip.")


def main():
    figures = Figures()
    noise = Noise()

    with Session() as session:
        session.run("ALTER SYSTEM SET synchronous_commit = off")
        session.run("SELECT pg_reload_conf()")
        if INSIDE:
            session.run(
                "CREATE OR REPLACE FUNCTION bench_admissions(tenant text, milliseconds int, "
                "plan_each bool, OUT decisions bigint, OUT admitted bigint, OUT histogram bigint[]) "
                "LANGUAGE C VOLATILE AS '$libdir/pgllm', 'bench_admissions'")

    def one_round(i):
        pure(figures)
        whole(figures)
        over_admission(figures, i)
        bucket_admission(figures, i)
    rounds(noise, one_round)
    with Session() as session:
        session.run("ALTER SYSTEM RESET synchronous_commit")
        session.run("SELECT pg_reload_conf()")

    print_pure(figures)
    print_whole(figures)
    print_table(
        "(a3) Over-admission, 32 backends at once", ["limit", "tries", "let through beyond the limit",
                                                     "below it"],
        [["strict, 1,000 a minute", 32 * OVER_TRIES, figures["over_strict"],
          figures["under_strict"]],
         ["bucket, 60,000 a minute, full", 59000 + 32 * OVER_TRIES, figures["over_bucket"], "–"]])
    print("\n" + str(noise))
    if INSIDE:
        key = (8, "hot", False)
        judge("decision + routing + settlement, 8 backends, hot bucket, per second", 200_000,
              figures["rate", *key], at_most=False)
        judge("… its p99, µs", 50, figures["p99", *key])
        judge("… with a plan per call, per second", 200_000, figures["rate", 8, "hot", True],
              at_most=False)
        judge("… its p99, µs", 50, figures["p99", 8, "hot", True])
        judge("… typical limits, plan per call, per second", 200_000,
              figures["rate", 8, "typical", True], at_most=False)
        judge("decision + routing + settlement, 1 backend, p50 µs", 5,
              figures["p50", 1, "hot", True])
    judge("over-admission, strict limit, 32 backends", 0, figures["over_strict"])
    judge("over-admission, bucket, 32 backends", 0, figures["over_bucket"])
