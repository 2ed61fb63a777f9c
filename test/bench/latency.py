"""(b) What a call costs beyond what libcurl costs: one at a time, and many in flight.

The bare rival sends the same bytes to the same nginx.  "Added" is the difference of the medians of
one round, in which both sides ran one after the other.
"""
import harness
from harness import *

PROMPT = "repeat('x', 850)"
SERIAL_CALLS = 500 if QUICK else 1000
SERIAL_BLOCKS = 2 if QUICK else 4  # per round: short ones, so that both sides meet the same noise
MANY_CALLS = 2000 if QUICK else 10000
DELAY_S = 0.2
IN_FLIGHT_FAST = (16, 64, 256)
IN_FLIGHT_SLOW = (16, 64, 256, 1000)
COLD_ROWS = 1000
NEW_CONNECTIONS = 50 if QUICK else 200


def url(name):
    return f"{'https' if name.startswith('tls') else 'http'}://127.0.0.1:{port(name)}"


def tls_options(name):
    return {"ca": WORK + "/bundle.pem", "http2": True} if name.startswith("tls") else {}


# ---- one at a time ----

def serial_pgllm(session, figures, key, tenant="fast", calls=SERIAL_CALLS):
    p50, p99, _, _, cpu = session.numbers(
        f"SELECT * FROM bench_calls('llm_invoke(text,text,jsonb)', '{tenant}', {PROMPT}, {calls})")
    figures["p50", key].add(p50)
    figures["p99", key].add(p99)
    figures["cpu", key].add(cpu)


def serial_bare(figures, key, upstream="fast", calls=SERIAL_CALLS, **options):
    result = bare(url(upstream), calls=calls, warm=50, **options, **tls_options(upstream))
    figures["p50", key].add(result["p50_us"])
    figures["p99", key].add(result["p99_us"])
    figures["cpu", key].add(result["cpu_us"] / calls)


def serial(session, figures):
    serial_bare(figures, "plain")
    serial_bare(figures, "full", sign=True, scan=True)
    serial_pgllm(session, figures, "pgllm")
    serial_bare(figures, "tls", upstream="tls_fast", sign=True, scan=True)
    serial_pgllm(session, figures, "pgllm_tls", tenant="tls_fast")
    # the halves of pgllm's own part: everything but the network
    serial_pgllm(session, figures, "pgllm_mock", tenant="hot")


# ---- many in flight ----

def many_pgllm(session, tenant, in_flight, calls):
    """Rows per second and CPU microseconds per row."""
    session.run(f"SET pgllm.max_concurrency = {in_flight}")
    wall_us, cpu_us, answered = session.numbers(
        "SELECT * FROM bench_statement($$SELECT count((m.result).response) FROM "
        f"llm_invoke_many('{tenant}', array_fill({PROMPT}, ARRAY[{calls}])) AS m$$)")
    if answered != calls:
        raise RuntimeError(f"{calls - answered} of {calls} calls of {tenant} failed")
    return calls / wall_us * 1e6, cpu_us / calls


def many_bare(upstream, in_flight, calls, warm):
    result = bare(url(upstream), calls=calls, warm=warm, inflight=in_flight, sign=True, scan=True,
                  **tls_options(upstream))
    return calls / result["wall_us"] * 1e6, result["cpu_us"] / calls


def many_round(session, figures, upstream, in_flight, calls, warm):
    rate, cpu = many_bare(upstream, in_flight, calls, warm)
    figures["rate", "bare", upstream, in_flight].add(rate)
    figures["cpu", "bare", upstream, in_flight].add(cpu)
    many_pgllm(session, upstream, in_flight, warm)
    rate, cpu = many_pgllm(session, upstream, in_flight, calls)
    figures["rate", "pgllm", upstream, in_flight].add(rate)
    figures["cpu", "pgllm", upstream, in_flight].add(cpu)


def many(session, figures):
    for in_flight in IN_FLIGHT_FAST:
        many_round(session, figures, "fast", in_flight, MANY_CALLS, 2 * in_flight)
    for in_flight in IN_FLIGHT_SLOW:
        many_round(session, figures, "slow", in_flight, 8 * in_flight, in_flight)
    many_round(session, figures, "tls_slow", 256, 8 * 256, 256)


# ---- new connections ----

def cold_tls(figures):
    """A thousand rows in a session that has no connection yet."""
    with Session() as session:
        rate, _ = many_pgllm(session, "tls_slow", 256, COLD_ROWS)
    figures["cold", "pgllm"].add(COLD_ROWS / rate)
    rate, _ = many_bare("tls_slow", 256, COLD_ROWS, 0)
    figures["cold", "bare"].add(COLD_ROWS / rate)


def new_connections(session, figures):
    """CPU of a TLS handshake: calls on connections that are closed after each, minus kept ones."""
    serial_pgllm(session, figures, "close", tenant="tls_close", calls=NEW_CONNECTIONS)
    serial_pgllm(session, figures, "kept", tenant="tls_fast", calls=NEW_CONNECTIONS)
    serial_bare(figures, "close_bare", upstream="tls_close", calls=NEW_CONNECTIONS, sign=True,
                scan=True)
    serial_bare(figures, "kept_bare", upstream="tls_fast", calls=NEW_CONNECTIONS, sign=True,
                scan=True)


# ---- report ----

def print_serial(figures):
    names = [("bare libcurl, kept connection", "plain"), ("… + SigV4 + JSON scan", "full"),
             ("llm_invoke", "pgllm"), ("bare, TLS, HTTP/2, + SigV4 + JSON", "tls"),
             ("llm_invoke, TLS, HTTP/2", "pgllm_tls"),
             ("llm_invoke, provider mock (no network)", "pgllm_mock")]
    rows = [[title, figures["p50", key], figures["p99", key], figures["cpu", key]]
            for title, key in names]
    for title, key, base in (("added over plain libcurl", "pgllm", "plain"),
                             ("added over bare, TLS", "pgllm_tls", "tls"),
                             ("added over bare + SigV4 + JSON", "pgllm", "full")):
        rows.append([title, *(figures[what, key].minus(figures[what, base])
                              for what in ("p50", "p99", "cpu"))])
    rows.append(["… quietest block of each side", *(Figure([min(figures[what, "pgllm"].values) - min(
        figures[what, "full"].values)]) for what in ("p50", "p99", "cpu"))])
    print_table("(b1) One call in flight, upstream answers at once; µs",
                ["what", "p50", "p99", "CPU of the process per call"], rows,
                "Neighbours only ever add: on a busy machine the quietest block is nearest to the truth.")


def print_many(figures):
    rows = []
    for upstream, counts in (("fast", IN_FLIGHT_FAST), ("slow", IN_FLIGHT_SLOW),
                             ("tls_slow", (256,))):
        for n in counts:
            rate = figures["rate", "pgllm", upstream, n]
            cpu = figures["cpu", "pgllm", upstream, n]
            bare_rate = figures["rate", "bare", upstream, n]
            bare_cpu = figures["cpu", "bare", upstream, n]
            ceiling = [rate.scaled(100 * DELAY_S / n), bare_rate.scaled(100 * DELAY_S / n)] \
                if upstream != "fast" else ["–", "–"]
            rows.append([{"fast": "0 ms", "slow": "200 ms", "tls_slow": "200 ms TLS"}[upstream], n,
                         rate, bare_rate, rate.over(bare_rate), *ceiling, cpu, bare_cpu,
                         cpu.over(bare_cpu)])
    print_table("(b2) llm_invoke_many in one statement against curl-multi + epoll (SigV4, JSON)",
                ["upstream", "in flight", "rows/s", "bare", "ratio", "% of ceiling", "bare",
                 "CPU µs/row", "bare", "ratio"], rows,
                "Ceiling = in flight ÷ 0.2 s.  Connections are warm.  Plain HTTP is HTTP/1.1, TLS is "
                "HTTP/2.")


def print_connections(figures):
    rows = [["1,000 rows over TLS at 200 ms, 256 in flight, new session, s",
             figures["cold", "pgllm"], figures["cold", "bare"],
             figures["cold", "pgllm"].over(figures["cold", "bare"])]]
    handshake = figures["cpu", "close"].minus(figures["cpu", "kept"])
    handshake_bare = figures["cpu", "close_bare"].minus(figures["cpu", "kept_bare"])
    rows.append(["CPU of a new TLS connection, full CA bundle, µs", handshake, handshake_bare,
                 handshake.over(handshake_bare)])
    print_table("(b3) New connections", ["what", "pgllm", "bare", "ratio"], rows,
                f"Calls that failed: pgllm 0, bare {harness.bare_failures} (HTTP/2 streams that "
                "libcurl opens too many of).")
    return handshake, handshake_bare


def main():
    figures = Figures()
    noise = Noise()
    with Session() as session:
        for tenant in ("fast", "tls_fast", "hot"):
            session.run(f"SELECT llm_invoke('{tenant}', 'x') FROM generate_series(1, 50)")

        def one_round(_):
            for _ in range(SERIAL_BLOCKS):
                serial(session, figures)
            many(session, figures)
            cold_tls(figures)
            new_connections(session, figures)
        rounds(noise, one_round)

    print_serial(figures)
    print_many(figures)
    handshake, handshake_bare = print_connections(figures)
    print("\n" + str(noise))
    judge("llm_invoke over bare libcurl + SigV4 + JSON, 0 ms: added p50, µs", 40,
          figures["p50", "pgllm"].minus(figures["p50", "full"]))
    judge("… added CPU, µs", 40, figures["cpu", "pgllm"].minus(figures["cpu", "full"]))
    for n, share in ((64, 97), (256, 95), (1000, 85)):
        judge(f"llm_invoke_many, 200 ms, {n} in flight, % of ceiling", share,
              figures["rate", "pgllm", "slow", n].scaled(100 * DELAY_S / n), at_most=False,
              rival=figures["rate", "bare", "slow", n].scaled(100 * DELAY_S / n))
    for title, upstream in (("", "slow"), (", TLS", "tls_slow")):
        judge(f"CPU per row, 256 in flight{title}, ÷ bare multi + epoll", 1.3,
              figures["cpu", "pgllm", upstream, 256].over(figures["cpu", "bare", upstream, 256]))
    judge("0 ms, 16 in flight, rows/s", 10_000, figures["rate", "pgllm", "fast", 16],
          at_most=False, rival=figures["rate", "bare", "fast", 16])
    judge("cold start: 1,000 rows, TLS, 200 ms, 256 in flight, s", 1.0, figures["cold", "pgllm"],
          rival=figures["cold", "bare"])
    judge("CPU of a new TLS connection, full CA bundle, µs", 1500, handshake, rival=handshake_bare)
