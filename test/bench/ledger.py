"""(f) What it costs to record every call: waiting for durability, writing the rows, reading them.

The limits of the same run: a function of the same signature that does nothing, and one logged
INSERT of eight columns per transaction, which is what a program would do that logs its calls itself.
"""
from harness import *

SECONDS = 1 if QUICK else 3
CALLS = 2000 if QUICK else 10000
MANY = 5000
IN_FLIGHT = (32, 256)
CLIENTS = (1, 32)
SYNCS = ("off", "result", "intent")
BUDGET_ROWS = 100_000 if QUICK else 1_000_000
INVOKE = "llm_invoke(text,text,jsonb)"
TRY = "llm_try_invoke(text,text,jsonb)"
CALL = "SELECT llm_invoke('hot', 'x');"
MEMO = "pgllm.memo_size=65536"


def settle(session):
    """Nothing queued, and the table empty: what was measured before costs nothing now."""
    if session.run("SELECT llm_flush()") != [["t"]]:
        raise RuntimeError("the ledger writer does not keep up")
    session.run("TRUNCATE llm_ledger, bench_log")
    session.run("CHECKPOINT")


def statements(session, figures, key, script, clients, settings=()):
    """One call per transaction, over the socket."""
    settle(session)
    rate, latencies = pgbench(script, clients, SECONDS, log=True, settings=settings)
    figures["rate", key, clients].add(rate)
    figures["p50", key, clients].add(percentile(latencies, 0.5))
    figures["p99", key, clients].add(percentile(latencies, 0.99))


def one_by_one(session, figures):
    for clients in CLIENTS:
        statements(session, figures, "nop", "SELECT bench_nop('hot', 'x', '{}');", clients)
        statements(session, figures, "insert", "INSERT INTO bench_log (tenant, target, model, "
                   "input_tokens, output_tokens, cost) VALUES ('hot', 'mock', 'm', 1, 2, 3);",
                   clients)
        for sync in SYNCS:
            statements(session, figures, sync, CALL, clients, [f"pgllm.ledger_sync={sync}"])
    statements(session, figures, "memo_key", CALL, 1, ["pgllm.ledger_sync=off", MEMO])


def many(session, figures, sync, in_flight):
    """Different prompts in one statement: rows per second, CPU per row."""
    settle(session)
    session.run(f"SET pgllm.ledger_sync = {sync}")
    session.run(f"SET pgllm.max_concurrency = {in_flight}")
    wall_us, cpu_us, answered = session.numbers(
        "SELECT * FROM bench_statement($$SELECT count((m.result).response) FROM llm_invoke_many("
        f"'hot', ARRAY(SELECT 'prompt ' || i FROM generate_series(1, {MANY}) AS i)) AS m$$)")
    if answered != MANY:
        raise RuntimeError(f"{MANY - answered} calls failed")
    figures["many", sync, in_flight].add(MANY / wall_us * 1e6)
    figures["many_cpu", sync, in_flight].add(cpu_us / MANY)
    session.run("RESET pgllm.ledger_sync")


def written(session):
    return session.numbers("SELECT extract(epoch FROM clock_timestamp()), written, queued "
                           "FROM llm_ledger_status WHERE datname = current_database()")


def writer(session, figures):
    """Rows per second while calls come faster than they can be written; the same rows copied."""
    settle(session)
    with Session(errors=subprocess.DEVNULL) as pusher:
        pusher.send("\\set ON_ERROR_STOP 0\nSELECT mean_us FROM "
                    f"bench_calls('{INVOKE}', 'hot', 'x', 10000000)")
        while written(session)[2] < 4000:
            time.sleep(0.05)
        samples = []
        for _ in range(10 * SECONDS):
            samples.append(written(session))
            time.sleep(0.1)
        session.run(f"SELECT pg_cancel_backend({pusher.pid})")
        pusher.receive()
    figures["backlog"].add(min(sample[2] for sample in samples))
    figures["rows"].add((samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0]))
    # alone: what is queued is written while nobody calls
    began = written(session)
    session.run("SELECT llm_flush()")
    ended = written(session)
    figures["rows_alone"].add((ended[1] - began[1]) / (ended[0] - began[0]))
    session.run("CREATE TABLE bench_copy (LIKE llm_ledger INCLUDING ALL)")
    copied = "WITH c AS (INSERT INTO bench_copy SELECT * FROM llm_ledger RETURNING 1) " \
             "SELECT count(*) FROM c"
    wall_us, _, rows = session.numbers(f"SELECT * FROM bench_statement($${copied}$$)")
    figures["copy"].add(rows / wall_us * 1e6)
    session.run("DROP TABLE bench_copy")


def inside(session, figures, key, function, tenant, settings, prompt="x"):
    """Many calls in one statement, the executor left out."""
    settle(session)
    for setting in settings:
        session.run("SET " + setting.replace("=", " = "))
    p50, p99, _, _, cpu = session.numbers(
        f"SELECT * FROM bench_calls('{function}', '{tenant}', '{prompt}', {CALLS})")
    figures["p50", key].add(p50)
    figures["p99", key].add(p99)
    figures["cpu", key].add(cpu)
    session.run("RESET ALL")


def hits(session, figures):
    off = "pgllm.ledger_sync=off"
    inside(session, figures, "nop", "bench_nop(text,text,jsonb)", "hot", ())
    inside(session, figures, "sent", INVOKE, "hot", (off,))
    inside(session, figures, "memo", INVOKE, "hot", (off, MEMO))
    inside(session, figures, "journal", INVOKE, "journaled", ("pgllm.ledger_sync=result",))
    session.run("SELECT llm_try_invoke('refused', 'x')")  # the only request of the minute
    inside(session, figures, "refused", TRY, "refused", (off,))
    for sync in ("off", "result"):
        statements(session, figures, "refused_" + sync,
                   "SELECT sqlstate FROM llm_try_invoke('refused', 'x');", 1,
                   [f"pgllm.ledger_sync={sync}"])


def fill_for_budgets(session):
    """Rows of one tenant, evenly over this month so far: what a budget is read from."""
    settle(session)
    session.run("SET client_min_messages = warning")  # the partition of today is there already
    session.run("""
        DO $$ DECLARE day timestamptz;
        BEGIN
            FOR day IN SELECT generate_series(date_trunc('month', now(), 'UTC'), now(), '1 day') LOOP
                EXECUTE format('CREATE TABLE IF NOT EXISTS llm_ledger_%s PARTITION OF llm_ledger '
                    'FOR VALUES FROM (%L) TO (%L)', to_char(day AT TIME ZONE 'UTC', 'YYYYMMDD'), day,
                    day + interval '1 day');
            END LOOP;
        END $$""")
    session.run(f"""
        INSERT INTO llm_ledger (started_at, call_id, attempt, outcome, tenant, session_role, role,
            role_id, route, target, shard, model, fallback_depth, input_tokens, output_tokens, charge,
            cost_nano_usd, over_budget)
        SELECT m + (now() - m) * (i / {BUDGET_ROWS}.0), gen_random_uuid(), 1, 'success', 'budgeted',
            'postgres', 'postgres', 10, 'budgeted', 'mock_priced', 'mock', 'priced', 0, 100, 100,
            'usage', 200000, false
        FROM generate_series(1, {BUDGET_ROWS}) AS i, date_trunc('month', now(), 'UTC') AS m""")
    session.run("VACUUM ANALYZE llm_ledger")


def budget_rebuild(session, figures, period):
    """The first call after a budget is new, less a call of the same tenant right after it."""
    session.run("DELETE FROM llm_quota WHERE tenant = 'budgeted'")
    session.run("INSERT INTO llm_quota (tenant, budget_usd, budget_period) "
                f"VALUES ('budgeted', 10000000, '{period}')")
    session.run("SELECT llm_invoke('hot', 'x')")  # reads the configuration
    call = "SELECT wall_us FROM bench_statement($$SELECT llm_invoke('budgeted', 'x') IS NULL$$)"
    first, second = session.numbers(call)[0], session.numbers(call)[0]
    figures["budget", period].add((first - second) / 1000)
    figures["budget_rows", period].add(session.numbers(
        f"SELECT count(*) FROM llm_ledger WHERE started_at >= date_trunc('{period}', now(), 'UTC')")
        [0])


# ---- report ----

TITLES = {"nop": "a function that does nothing", "insert": "one logged INSERT, 8 columns",
          "off": "llm_invoke, ledger_sync off", "result": "… result (the default)",
          "intent": "… intent"}


def print_one_by_one(figures):
    rows = []
    for clients in CLIENTS:
        for key, title in TITLES.items():
            rate = figures["rate", key, clients]
            rows.append([title, clients, figures["p50", key, clients], figures["p99", key, clients],
                         rate, rate.over(figures["rate", "insert", clients])])
    rows.append(["… off, with the memo: its key and entry", 1, figures["p50", "memo_key", 1],
                 figures["p99", "memo_key", 1], figures["rate", "memo_key", 1], "–"])
    print_table("(f1) One call per transaction, mock, 0 ms, over the socket; µs",
                ["what", "clients", "p50", "p99", "per second", "÷ INSERT"], rows,
                "off at full speed is limited by the writer once its queue is full: then calls wait for "
                "a slot.")


def print_many(figures):
    rows = []
    for in_flight in IN_FLIGHT:
        for sync in SYNCS:
            rate = figures["many", sync, in_flight]
            rows.append([sync, in_flight, rate, rate.over(figures["many", "off", in_flight]),
                         figures["many_cpu", sync, in_flight]])
    print_table(f"(f2) llm_invoke_many, {MANY:,} different prompts in one statement, mock, 0 ms",
                ["ledger_sync", "in flight", "rows/s", "÷ off", "CPU µs per row"], rows)


def print_writer(figures):
    rows = [["while one backend calls as fast as it can", figures["rows"],
             figures["rows"].over(figures["copy"]), figures["backlog"]],
            ["while nobody calls", figures["rows_alone"],
             figures["rows_alone"].over(figures["copy"]), "–"],
            ["limit: INSERT .. SELECT of the same rows", figures["copy"], 1, "–"]]
    print_table("(f3) Writer: rows per second into llm_ledger",
                ["what", "rows/s", "÷ limit", "fewest records queued meanwhile"], rows)


def print_hits(figures):
    names = [("a function that does nothing", "nop"), ("llm_invoke, sent to mock, off", "sent"),
             ("answered by the memo", "memo"), ("answered by the journal", "journal"),
             ("refused, with its row, off", "refused")]
    rows = [[title, figures["p50", key], figures["p99", key], figures["cpu", key]]
            for title, key in names]
    for sync in ("off", "result"):
        rows.append([f"refused, per statement over the socket, {sync}",
                     figures["p50", "refused_" + sync, 1], figures["p99", "refused_" + sync, 1], "–"])
    print_table("(f4) Calls that are not sent, inside one statement; µs",
                ["what", "p50", "p99", "CPU"], rows)


def print_budgets(figures):
    rows = [[period, figures["budget_rows", period], figures["budget", period],
             figures["budget_rows", period].over(figures["budget", period].scaled(1e-3))]
            for period in ("day", "month")]
    print_table(f"(f5) A budget is read from a ledger of {BUDGET_ROWS:,} rows; ms",
                ["period", "rows in it", "first call adds", "rows/s"], rows)


def main():
    figures = Figures()
    noise = Noise()
    with Session() as session:
        session.run("SELECT llm_invoke(t, 'x') FROM unnest(ARRAY['hot', 'journaled']) AS t")

        def one_round(_):
            one_by_one(session, figures)
            for in_flight in IN_FLIGHT:
                for sync in SYNCS:
                    many(session, figures, sync, in_flight)
            writer(session, figures)
            hits(session, figures)
        rounds(noise, one_round)
        fill_for_budgets(session)
        for _ in range(ROUNDS):
            budget_rebuild(session, figures, "day")
            budget_rebuild(session, figures, "month")
        session.run("TRUNCATE llm_ledger")
        noise.sample()

    print_one_by_one(figures)
    print_many(figures)
    print_writer(figures)
    print_hits(figures)
    print_budgets(figures)
    print("\n" + str(noise))
    judge("ledger_sync result over off, 1 client: added p50, µs", 1000,
          figures["p50", "result", 1].minus(figures["p50", "off", 1]))
    judge("refusal with its row, per statement, off: p50, µs", 200,
          figures["p50", "refused_off", 1])
    judge("refusal with its row, inside a statement: p50, µs", 200, figures["p50", "refused"])
