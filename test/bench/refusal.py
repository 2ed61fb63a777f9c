"""(c) How fast a call is refused, how fast it moves to the next candidate, and the first of a session.
"""
import json
import urllib.request

from harness import *

CALLS = 2000 if QUICK else 20000
HTTP_CALLS = 300 if QUICK else 2000
SIM_CALLS = 100 if QUICK else 500
SECONDS = 1 if QUICK else 3
SESSIONS = 5 if QUICK else 20
BLOCKS = 5
THROTTLED = 2 if QUICK else 4
TRY = "llm_try_invoke(text,text,jsonb)"
INVOKE = "llm_invoke(text,text,jsonb)"


def timed(session, figures, key, function, tenant, calls):
    p50, p99, _, _, cpu = session.numbers(
        f"SELECT * FROM bench_calls('{function}', '{tenant}', 'x', {calls})")
    figures["p50", key].add(p50)
    figures["p99", key].add(p99)
    figures["cpu", key].add(cpu)


def statements(figures, key, sql):
    _, latencies = pgbench(sql, 1, SECONDS, log=True)
    figures["p50", key].add(percentile(latencies, 0.5))
    figures["p99", key].add(percentile(latencies, 0.99))


def refusals(session, figures):
    row = session.run("SELECT sqlstate, attempts FROM llm_try_invoke('refused', 'x')")[0]
    if row != ["LM002", "0"]:  # the first call of the minute took the request
        row = session.run("SELECT sqlstate, attempts FROM llm_try_invoke('refused', 'x')")[0]
    if row != ["LM002", "0"]:
        raise RuntimeError(f"expected a refusal, got {row}")
    timed(session, figures, "refused", TRY, "refused", CALLS)
    timed(session, figures, "answered", TRY, "hot", CALLS)
    statements(figures, "statement", "SELECT sqlstate FROM llm_try_invoke('refused', 'x');")
    statements(figures, "floor", "SELECT 1;")


def switches(session, figures):
    for name, calls in (("switch", CALLS), ("switch_fast", HTTP_CALLS), ("switch_sim", SIM_CALLS)):
        session.run(f"SELECT llm_invoke('{name}', 'x')")  # empties the primary's bucket
        for _ in range(BLOCKS):  # short turns, so that both meet the same noise
            timed(session, figures, name + "_direct", INVOKE, name + "_direct", calls // BLOCKS)
            timed(session, figures, name, INVOKE, name, calls // BLOCKS)
        depth = session.run(f"SELECT fallback_depth FROM llm_try_invoke('{name}', 'x')")[0][0]
        if depth != "1":
            raise RuntimeError(f"{name}: expected the second candidate, got depth {depth}")


def throttle_once():
    control = f"http://127.0.0.1:{simulator()['control_port']}/faults"
    rule = {"match": {"account": "111111111111"}, "faults": [{"kind": "Throttling", "times": 1}]}
    urllib.request.urlopen(urllib.request.Request(control, json.dumps(rule).encode(),
                                                  method="POST")).read()


def throttled(session, figures):
    """The provider itself says 429: one round trip is lost, then the second candidate answers."""
    for _ in range(THROTTLED):
        ok = session.run("SELECT fallback_depth, total_ms FROM llm_try_invoke('throttled_sim', 'x')")
        throttle_once()
        row = session.run("SELECT sqlstate, attempts, total_ms "
                          "FROM llm_try_invoke('throttled_sim', 'x')")[0]
        if row[:2] != ["", "2"] or ok[0][0] != "0":
            raise RuntimeError(f"expected a 429 and an answer, got {ok} and {row}")
        figures["throttled"].add(float(row[2]))
        figures["not_throttled"].add(float(ok[0][1]))
        time.sleep(2.5)  # the cool-down is over


def first_calls(figures, tenant):
    """psql's own timing of a session's first statement, first call and second call, in ms."""
    command = psql_command("-c", "\\timing on")
    for sql in ("SELECT 1", f"SELECT llm_invoke('{tenant}', 'x')",
                f"SELECT llm_invoke('{tenant}', 'x')"):
        command += ["-c", sql]
    for _ in range(SESSIONS):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times = [float(line.split()[1]) for line in done.stdout.splitlines()
                 if line.startswith("Time:")]
        for key, value in zip(("select", "first", "second"), times):
            figures[key, tenant].add(value)


def print_tables(figures):
    rows = [[title, figures["p50", key], figures["p99", key], figures["cpu", key]]
            for title, key in (("refused, per call inside one statement", "refused"),
                               ("answered by mock, per call inside one statement", "answered"),
                               ("refused, per statement over the socket", "statement"),
                               ("SELECT 1, per statement", "floor"))]
    rows.append(["refusal added to SELECT 1", *(figures[what, "statement"].minus(
        figures[what, "floor"]) for what in ("p50", "p99")), "–"])
    print_table("(c1) Refusal: llm_try_invoke with an empty bucket (LM002); µs",
                ["what", "p50", "p99", "CPU"], rows)
    rows = []
    for title, key in (("mock", "switch"), ("nginx, HTTP", "switch_fast"),
                       ("simulator, HTTP", "switch_sim")):
        rows.append([title, figures["p50", key + "_direct"], figures["p50", key],
                     figures["p50", key].minus(figures["p50", key + "_direct"]),
                     figures["cpu", key].minus(figures["cpu", key + "_direct"])])
    print_table("(c2) Fallback on an empty bucket of the primary; µs",
                ["upstream", "second candidate asked directly, p50", "after the switch, p50",
                 "added p50", "added CPU"], rows)
    rows = [["simulator says 429, second answers, ms", figures["not_throttled"],
             figures["throttled"], figures["throttled"].minus(figures["not_throttled"])]]
    print_table("(c3) Fallback after a throttled attempt", ["what", "call without", "with",
                                                            "added"], rows)
    rows = [[tenant, *(figures[key, tenant] for key in ("select", "first", "second")),
             figures["first", tenant].minus(figures["second", tenant])]
            for tenant in ("hot", "fast", "tls_fast")]
    print_table("(c4) First call of a session; ms, psql's timing",
                ["tenant", "SELECT 1", "first call", "second call", "cold start adds"], rows,
                "hot: mock; fast: HTTP; tls_fast: TLS with the full CA bundle.")


def main():
    figures = Figures()
    noise = Noise()
    with Session() as session:
        session.run("SELECT llm_invoke(t, 'x') FROM unnest(ARRAY['hot', 'switch_direct', "
                    "'switch_fast_direct', 'switch_sim_direct']) AS t")

        def one_round(_):
            refusals(session, figures)
            switches(session, figures)
            throttled(session, figures)
        rounds(noise, one_round)
    for tenant in ("hot", "fast", "tls_fast"):
        first_calls(figures, tenant)
    noise.sample()

    print_tables(figures)
    print("\n" + str(noise))
    judge("refusal at SQL level, per statement: p50, µs", 200, figures["p50", "statement"])
    judge("… p99, µs", 200, figures["p99", "statement"])
    judge("refusal inside a statement, per call: p50, µs", 200, figures["p50", "refused"])
    judge("fallback switch on an empty bucket: added p50, µs (mock)", 1000,
          figures["p50", "switch"].minus(figures["p50", "switch_direct"]))
    judge("fallback switch on an empty bucket: added p50, µs (simulator)", 1000,
          figures["p50", "switch_sim"].minus(figures["p50", "switch_sim_direct"]))
