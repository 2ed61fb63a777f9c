"""The cold start: 1,000 rows over TLS at 200 ms, 256 in flight, in a session without connections.

Whoever keeps one call in flight is asked for a few rows and the time for a thousand follows from
them.  Gateways are left out: theirs is a server that others have warmed up.
"""
import contestants
import harness
from harness import Figures, Noise, judge, print_table, rounds

ROWS = 1000
IN_FLIGHT = 256
FEW_ROWS = 10


def start_cold(line):
    """Seconds for ROWS rows."""
    line.begin()
    try:
        if not line.concurrent:
            few = line.sample("tls_slow", 1, FEW_ROWS)
            return few.wall_us / 1e6 / FEW_ROWS * ROWS
        more = {"warm": 0} if line.kind == "limit" else {}
        sample = line.sample("tls_slow", IN_FLIGHT, ROWS, **more)
        if sample.failed * 20 > ROWS:
            raise RuntimeError(f"{sample.failed} calls failed")
        return sample.wall_us / 1e6
    finally:
        line.end()


def main(missing):
    with harness.Session() as session:
        session.run("DELETE FROM peer_target; DROP FUNCTION IF EXISTS peer_http_fast, peer_http_slow, "
                    "peer_http_tls_slow")
    contenders = [line for line in contestants.all_lines(missing, with_gateways=False) if line.cold]
    figures = Figures()
    noise = Noise()

    def one_round(_):
        for line in contenders:
            try:
                figures[line.key].add(start_cold(line))
            except RuntimeError as error:
                if line.kind == "ours":
                    raise
                print(f"left out: {line.title}: {error}", flush=True)
    rounds(noise, one_round, max(2, harness.ROUNDS))
    ours = figures["select"]
    print_table("(c) Cold start: 1,000 rows over TLS at 200 ms, 256 in flight, new session; s",
                ["line", "seconds", "÷ pgllm's SELECT"],
                [[line.title + ("" if line.concurrent else " [1 in flight: from a few rows]"),
                  figures[line.key], figures[line.key].over(ours)] for line in contenders])
    print("\n" + str(noise))
    for key in ("select", "insert", "many"):
        title = next(line.title for line in contenders if line.key == key)
        judge(f"cold start, {title}, s", 1.0, figures[key], rival=figures["bare"])
