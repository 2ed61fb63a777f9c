"""What happened: the invocation log, the counters, the last raw requests.

Owns: everything that tests read back.  ``log`` plays the part of Bedrock's
model invocation log (the only place where ``inferenceRegion`` can be seen);
entries are written when a request ends and numbered from 1.

Nothing secret leaves: signatures and session tokens are replaced on the way
out of ``last_requests``.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import deque
from typing import Any

from http_server import Request

SIGNATURE = re.compile(r"Signature=\S*")
OK = 200
THROTTLED = 429
LEDGER_COLUMNS = ("callId", "attempt", "account", "modelId", "status", "inputTokens",
                  "outputTokens", "written")
MAX_KEPT_BYTES = 64_000_000


class Counters:
    """The counters of one account, Region and model id, or of everything."""

    __slots__ = ("requests", "ok", "throttled", "errors", "disconnected", "in_flight",
                 "max_in_flight")

    def __init__(self) -> None:
        self.requests = self.ok = self.throttled = self.errors = 0
        self.disconnected = self.in_flight = self.max_in_flight = 0

    def begin(self) -> None:
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self, status: int) -> None:
        self.in_flight -= 1
        if status == OK:
            self.ok += 1
        elif status == THROTTLED:
            self.throttled += 1
        else:
            self.errors += 1

    def report(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


class Journal:
    """All records of one simulator."""

    def __init__(self, log_limit: int, requests_limit: int) -> None:
        self._log: deque[dict[str, Any]] = deque(maxlen=log_limit)
        self._requests: deque[tuple[float, str, Request]] = deque()
        self._requests_limit = requests_limit
        self._requests_bytes = 0
        self._numbers = itertools.count(1)
        self._counters: dict[tuple[str, str, str], Counters] = {}
        self._total = Counters()

    def begin(self, key: tuple[str, str, str], request_id: str,
              request: Request) -> tuple[Counters, Counters]:
        """Count a request in; the counters that its end must be told to."""
        counters = self._counters.get(key)
        if counters is None:
            counters = self._counters[key] = Counters()
        counters.begin()
        self._total.begin()
        self._keep(request_id, request)
        return counters, self._total

    def _keep(self, request_id: str, request: Request) -> None:
        self._requests.append((time.time(), request_id, request))
        self._requests_bytes += len(request.body)
        while (len(self._requests) > self._requests_limit
               or self._requests_bytes > MAX_KEPT_BYTES):
            self._requests_bytes -= len(self._requests.popleft()[2].body)

    def write(self, entry: dict[str, Any]) -> None:
        self._log.append({"seq": next(self._numbers)} | entry)

    def since(self, seq: int) -> list[dict[str, Any]]:
        """The log entries after number ``seq``, oldest first."""
        newer = itertools.takewhile(lambda entry: entry["seq"] > seq, reversed(self._log))
        return list(newer)[::-1]

    def ledger(self, seq: int) -> dict[str, Any]:
        """The same as rows, with the tokens that were billed: cheap for thousands of them."""
        rows = [[entry[column] for column in LEDGER_COLUMNS[:5]]
                + [entry["inputTokens"] or 0, entry["outputTokens"] or 0, entry["written"]]
                for entry in self.since(seq)]
        return {"columns": LEDGER_COLUMNS, "rows": rows,
                "totals": {"requests": len(rows), "inputTokens": sum(row[5] for row in rows),
                           "outputTokens": sum(row[6] for row in rows)},
                "in_flight": self._total.in_flight,
                "last": self._log[-1]["seq"] if self._log else 0}

    def stats(self) -> dict[str, Any]:
        return {
            "totals": self._total.report(),
            "by_key": [{"account": account, "region": region, "model": model,
                        **counters.report()}
                       for (account, region, model), counters in sorted(self._counters.items())],
        }

    def last_requests(self, count: int) -> list[dict[str, Any]]:
        """The last ``count`` requests, oldest first, as they came, secrets removed."""
        kept = list(self._requests)[-count:] if count > 0 else []
        return [{"time": when, "requestId": request_id, "method": request.method,
                 "path": request.path, "query": request.query,
                 "headers": redacted(request.headers),
                 "body": request.body.decode("utf-8", "backslashreplace")}
                for when, request_id, request in kept]


def redacted(headers: dict[str, str]) -> dict[str, str]:
    shown = dict(headers)
    if "authorization" in shown:
        shown["authorization"] = SIGNATURE.sub("Signature=REDACTED", shown["authorization"])
        if "Signature=REDACTED" not in shown["authorization"]:
            shown["authorization"] = "REDACTED"
    if "x-amz-security-token" in shown:
        shown["x-amz-security-token"] = "REDACTED"
    return shown
