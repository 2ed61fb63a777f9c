"""(d) Memory of a backend: idle with and without pgllm, after a call, and per call in flight.

Pss from /proc/PID/smaps_rollup: shared pages are divided among the processes that map them, so ten
idle backends are looked at together.  Private is what the backend alone holds.
"""
from harness import *

IDLE = 10
IN_FLIGHT = 256


def memory(pid):
    """Pss and private memory in kB."""
    fields = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file.readlines()[1:]:
            name, value = line.split(":")
            fields[name] = int(value.split()[0])
    return fields["Pss"], fields["Private_Clean"] + fields["Private_Dirty"]


def note(figures, key, pids):
    for pid in pids:
        pss, private = memory(pid)
        figures["pss", key].add(pss)
        figures["private", key].add(private)


def open_idle():
    sessions = [Session() for _ in range(IDLE)]
    for session in sessions:
        session.run("SELECT count(*) FROM pg_class")
    return sessions


def idle(figures, key, after=()):
    """Pss of idle sessions, then after each of the given statements."""
    sessions = open_idle()
    note(figures, key, [session.pid for session in sessions])
    for name, sql in after:
        for session in sessions:
            session.run(sql)
        note(figures, name, [session.pid for session in sessions])
    for session in sessions:
        session.close()


def restart(libraries):
    data = WORK + "/data"
    subprocess.run(["setpriv", f"--reuid={SERVER_USER}", f"--regid={SERVER_USER}", "--init-groups",
                    "setsid", BINDIR + "/pg_ctl", "-D", data, "-l", WORK + "/out/postgres.log", "-m",
                    "fast", "-w", "-o", f"-c shared_preload_libraries={libraries}", "restart"],
                   check=True, stdout=subprocess.DEVNULL)


def in_flight(figures, tenant):
    """kB per call while IN_FLIGHT of them wait for an upstream that takes 3 s."""
    with Session() as session:
        session.run(f"SET pgllm.max_concurrency = {IN_FLIGHT}")
        session.run(f"SELECT llm_invoke('{tenant.replace('long', 'fast')}', repeat('x', 850))")
        before = memory(session.pid)
        session.send("SELECT count((m.result).response) FROM "
                     f"llm_invoke_many('{tenant}', array_fill(repeat('x', 850), "
                     f"ARRAY[{IN_FLIGHT}])) AS m")
        thread, samples = watch(lambda: memory(session.pid), 2.8)
        thread.join()
        answered = session.receive()[0][0]
        after = memory(session.pid)
    if answered != str(IN_FLIGHT):
        raise RuntimeError(f"only {answered} of {IN_FLIGHT} calls were answered")
    for i, what in enumerate(("pss", "private")):
        peak = max(sample[i] for sample in samples)
        figures[what, "flight", tenant].add((peak - before[i]) / IN_FLIGHT)
        figures[what, "left", tenant].add((after[i] - before[i]) / IN_FLIGHT)


def main():
    figures = Figures()
    noise = Noise()
    after = [("call_mock", "SELECT llm_invoke('hot', 'x')"),
             ("call_http", "SELECT llm_invoke('fast', repeat('x', 850))"),
             ("call_tls", "SELECT llm_invoke('tls_fast', repeat('x', 850))")]

    def one_round(_):
        restart("")
        idle(figures, "stock")
        restart("pgllm")
        idle(figures, "pgllm", after)
        in_flight(figures, "long")
        in_flight(figures, "tls_long")
    rounds(noise, one_round, max(2, ROUNDS // 2))
    with Session() as session:
        shared_kb = session.numbers("SELECT coalesce(sum(allocated_size), 0) / 1024 "
                                    "FROM pg_shmem_allocations WHERE name LIKE 'pgllm%'")[0]

    def row(title, key):
        stock = figures["pss", "stock"].median
        return [title, figures["pss", key], figures["private", key],
                number(figures["pss", key].median - stock)]
    print_table(f"(d1) Memory of a backend, {IDLE} sessions; kB",
                ["state", "Pss", "private", "Pss over stock"],
                [row("idle, without pgllm", "stock"), row("idle, pgllm preloaded", "pgllm"),
                 row("… after one call, mock", "call_mock"),
                 row("… after one call, HTTP", "call_http"),
                 row("… after one call, TLS, full CA bundle", "call_tls")],
                f"Shared memory of pgllm, once per server: {number(shared_kb)} kB.")
    print_table(f"(d2) Memory per call, {IN_FLIGHT} in flight; kB",
                ["upstream", "Pss", "private", "Pss left afterwards"],
                [[title, figures["pss", "flight", key], figures["private", "flight", key],
                  figures["pss", "left", key]]
                 for title, key in (("HTTP/1.1", "long"), ("TLS, HTTP/2", "tls_long"))])
    print("\n" + str(noise))
    idle_over = Figure([(figures["pss", "pgllm"].median - figures["pss", "stock"].median) / 1024])
    called_over = Figure([(figures["pss", "call_tls"].median - figures["pss", "stock"].median) / 1024])
    judge("memory of an idle backend over stock, MB", 2, idle_over)
    judge("… after its first TLS call, MB", 2, called_over)
    judge("memory per TLS call in flight, kB", 90, figures["pss", "flight", "tls_long"])
    judge("memory per HTTP call in flight, kB", 90, figures["pss", "flight", "long"])
