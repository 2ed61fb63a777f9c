"""(e) What grows with the configuration: tenants, quotas and role quotas that do not concern a call.

Runs last, because it fills the tables.
"""
from harness import *

STEPS = (100, 1000) if QUICK else (100, 1000, 10000)
CALLS = 1000 if QUICK else 3000
ROLES = 300


def grow(session, upto):
    """Tenants s1 … s<upto>, each with a quota of its own."""
    session.run(f"""
        INSERT INTO llm_tenant (tenant, route)
        SELECT 's' || i, 'hot' FROM generate_series(1, {upto}) AS i ON CONFLICT DO NOTHING""")
    session.run(f"""
        INSERT INTO llm_quota (tenant, rpm)
        SELECT 's' || i, 10 FROM generate_series(1, {upto}) AS i
        WHERE NOT EXISTS (SELECT FROM llm_quota AS q WHERE q.tenant = 's' || i)""")


def add_roles(session):
    session.run(f"""
        DO $$ BEGIN FOR i IN 1 .. {ROLES} LOOP
            EXECUTE 'CREATE ROLE bench_role_' || i;
            EXECUTE format('INSERT INTO llm_quota (role, rpm) VALUES (%L, 1000)', 'bench_role_' || i);
        END LOOP; END $$""")


def measure(figures, key):
    for _ in range(ROUNDS):
        with Session() as session:
            session.run("SELECT 1")
            figures["first", key].add(session.numbers(
                "SELECT wall_us FROM bench_statement($$SELECT llm_invoke('hot', 'x') IS NULL$$)")[0]
                / 1000)
            p50, _, _, _, cpu = session.numbers(
                f"SELECT * FROM bench_calls('llm_invoke(text,text,jsonb)', 'hot', 'x', {CALLS})")
            figures["p50", key].add(p50)
            figures["cpu", key].add(cpu)


def many_subjects(session, tenants):
    """More tenants call within seconds than pgllm.max_limits has room for; then an unrelated one."""
    calls, failed, state = session.run(
        f"SELECT count(*), count(*) FILTER (WHERE r.sqlstate IS NOT NULL), "
        f"coalesce(min(r.sqlstate), '-') FROM generate_series(1, {tenants}) AS i, "
        "LATERAL llm_try_invoke('s' || i, 'x') AS r")[0]
    other = session.run("SELECT coalesce(sqlstate, 'answered') FROM llm_try_invoke('d0', 'x')")[0][0]
    p50 = session.numbers("SELECT * FROM bench_calls('llm_try_invoke(text,text,jsonb)', "
                          f"'s{tenants}', 'x', 500)")[0]
    return [calls, failed, state, other, number(p50)]


def main():
    figures = Figures()
    noise = Noise()
    rows = []
    with Session() as session:
        base = int(session.run("SELECT count(*) FROM llm_quota")[0][0])
        measure(figures, 0)
        rows.append([f"{base} quotas (the benchmark's own)", 0])
        for step in STEPS:
            grow(session, step)
            measure(figures, step)
            rows.append([f"+ {step:,} tenants with a quota each", step])
        add_roles(session)
        measure(figures, "roles")
        rows.append([f"+ {ROLES} quotas of roles the caller is not in", "roles"])
        subjects = many_subjects(session, min(STEPS[-1], 3000))
    noise.sample()
    print_table("(e1) One tenant's llm_invoke (mock) as other tenants' configuration grows",
                ["configuration", "p50 µs", "CPU µs", "first call of a session, ms"],
                [[title, figures["p50", key], figures["cpu", key], figures["first", key]]
                 for title, key in rows])
    print_table("(e2) Many tenants at once, pgllm.max_limits 2048",
                ["tenants that call once", "failed", "sqlstate", "an unrelated tenant then",
                 "a call of the last one then, p50 µs"], [subjects])
    print("\n" + str(noise))
