#!/usr/bin/env python3
"""What the demo scripts cannot do in SQL.  They call it as: \\! $DEMO …

    demo.py at-once TENANT=CALLS …        that many backends, one call each, all released together
    demo.py simulator METHOD PATH [JSON]  tell the simulator something, print nothing
    demo.py load-log                      the simulator's log into demo.invocation

at-once empties demo.call and demo.invocation first and fills them.  The environment says where the
server is (PGHOST …), which psql to use (PSQL), and the simulator's control port (SIM_CONTROL).
Standard library only.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

CALL = Path(__file__).with_name("call.sql")
PSQL = [os.environ.get("PSQL", "psql"), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"]
GUN = 20_260_731
START_SECONDS = 60
CALL_SECONDS = 120
COLUMNS = ("account", "region", "modelId", "inferenceRegion", "status", "requestId")


def simulator(method: str, path: str, body: str | None = None) -> dict:
    request = urllib.request.Request(f"http://127.0.0.1:{os.environ['SIM_CONTROL']}{path}",
                                     method=method, data=body.encode() if body else None)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return json.load(answer)


def run_sql(*statements: str, data: str = "") -> None:
    commands = [word for statement in statements for word in ("-c", statement)]
    subprocess.run([*PSQL, *commands], input=data, text=True, check=True)


def load_log(since: int) -> None:
    """The log from ``since`` on, once the calls that are still being worked on have ended."""
    deadline = time.monotonic() + CALL_SECONDS
    while simulator("GET", "/stats")["totals"]["in_flight"] > 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    rows = io.StringIO()
    writer = csv.writer(rows)
    for entry in simulator("GET", f"/log?since={since}")["entries"]:
        writer.writerow(["" if entry[column] is None else entry[column] for column in COLUMNS])
    run_sql("TRUNCATE demo.invocation", "COPY demo.invocation FROM STDIN (FORMAT csv)",
            data=rows.getvalue())


class StartingGun:
    """A session that holds the lock every caller waits for."""

    def __init__(self) -> None:
        self.session = subprocess.Popen(PSQL, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ask(f"SELECT count(pg_advisory_lock({GUN}))")

    def ask(self, query: str) -> int:
        self.session.stdin.write(query + ";\n")
        return int(self.session.stdout.readline())

    def wait_for(self, callers: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                       f" AND objid = {GUN} AND objsubid = 1") < callers:
            if time.monotonic() > deadline:
                raise TimeoutError("not all backends came to the start")
            time.sleep(0.02)

    def fire(self) -> None:
        self.session.stdin.close()
        self.session.wait(START_SECONDS)


def at_once(plan: dict[str, int]) -> None:
    since = simulator("GET", "/log?since=0")["last"]
    run_sql("TRUNCATE demo.call")
    gun = StartingGun()
    callers: list[subprocess.Popen] = []
    try:
        for tenant, calls in plan.items():
            for _ in range(calls):
                callers.append(subprocess.Popen(
                    [*PSQL, "-v", f"tenant={tenant}", "-v", f"backend={len(callers) + 1}",
                     "-v", f"gun={GUN}", "-f", str(CALL)], stdin=subprocess.DEVNULL))
        gun.wait_for(len(callers))
        gun.fire()
        deadline = time.monotonic() + CALL_SECONDS
        for caller in callers:
            if caller.wait(max(deadline - time.monotonic(), 0)):
                raise RuntimeError("a backend failed")
    finally:
        for process in (gun.session, *callers):
            if process.poll() is None:
                process.kill()
    load_log(since)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["at-once", *plan] if plan:
            at_once({tenant: int(calls) for tenant, calls in (item.split("=") for item in plan)})
        case ["simulator", method, path, *body] if len(body) <= 1:
            simulator(method, path, *body)
        case ["load-log"]:
            load_log(0)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
