"""Where the time of a backend goes: perf and strace on the paths of (a) and (b).

Not part of the default run.  perf is used if it is installed, strace likewise.  Nothing is judged.
"""
import re
import shutil

from harness import *

SECONDS = 2 if QUICK else 4
LINES = 28
PROMPT = "repeat('x', 850)"


def calls_sql(tenant):
    return (f"SELECT * FROM bench_calls('llm_invoke(text,text,jsonb)', '{tenant}', {PROMPT}, "
            "100000000)")


def many_sql(tenant, in_flight):
    return (f"SELECT count((m.result).response) FROM generate_series(1, 1000000) AS g, LATERAL "
            f"llm_invoke_many('{tenant}', array_fill({PROMPT} || left(g::text, 0), "
            f"ARRAY[{8 * in_flight}])) AS m")


def in_background(sql, settings, action):
    """Run `action(pid)` while a session works on the statement; the statement is cancelled then."""
    with Session(errors=subprocess.DEVNULL) as session, Session() as other:
        for setting in settings:
            session.run(setting)
        session.send("\\set ON_ERROR_STOP 0\n" + sql)
        time.sleep(1)
        try:
            return action(session.pid)
        finally:
            other.run(f"SELECT pg_cancel_backend({session.pid})")
            session.receive()


def perf(pid):
    """Share of samples by library and function."""
    data = WORK + "/out/perf.data"
    subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "5000", "-g", "-p", str(pid), "-o",
                    data, "--", "sleep", str(SECONDS)], check=True, capture_output=True)

    def report(*more):
        done = subprocess.run(["perf", "report", "-i", data, "--stdio", "-g", "none",
                               "--percent-limit", "0.4", *more], capture_output=True, text=True)
        return [line.rstrip(" -") for line in done.stdout.splitlines()
                if line.strip() and not line.startswith("#")]
    return (report("--no-children", "--sort", "dso"),
            report("--no-children", "--sort", "dso,symbol")[:LINES],
            [line for line in report("--children", "--sort", "dso,symbol") if "pgllm.so" in line]
            [:LINES])


def system_calls(pid):
    """System calls by name, counted over a while."""
    log = WORK + "/out/strace.log"
    subprocess.run(["timeout", "-s", "INT", str(SECONDS), "strace", "-c", "-q", "-o", log, "-p",
                    str(pid)], capture_output=True)
    counts = {}
    with open(log) as file:
        for line in file:
            match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
            if match and match[2] != "total":
                counts[match[2]] = int(match[1])
    return counts


def main():
    cases = [("llm_invoke, mock, hot bucket", calls_sql("hot"), []),
             ("llm_invoke, mock, typical limits", calls_sql("typical"), []),
             ("llm_invoke, HTTP, 0 ms, one in flight", calls_sql("fast"), []),
             ("llm_invoke_many, HTTP, 0 ms, 16 in flight", many_sql("fast", 16),
              ["SET pgllm.max_concurrency = 16"]),
             ("llm_invoke_many, HTTP, 200 ms, 256 in flight", many_sql("slow", 256),
              ["SET pgllm.max_concurrency = 256"])]
    for title, sql, settings in cases:
        if shutil.which("perf"):
            libraries, own, total = in_background(sql, settings, perf)
            print(f"\n== {title}: by library")
            print("\n".join(libraries))
            print("-- by function")
            print("\n".join(own))
            print("-- functions of pgllm with all they call")
            print("\n".join(total))
        if shutil.which("strace"):
            counts = in_background(sql, settings, system_calls)
            sent = counts.get("sendto", 0)
            print("-- no system calls" if not sent else "-- system calls per request: " + ", ".join(
                f"{name} {count / sent:.2f}" for name, count in
                sorted(counts.items(), key=lambda item: -item[1]) if count / sent >= 0.02))
        sys.stdout.flush()
