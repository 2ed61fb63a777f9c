"""One request on the data plane, from its arrival to its log entry.

Owns: the bookkeeping that must happen exactly once per request: counted in,
counted out, logged.  ``end`` does the last two and may be called by whoever
comes first (the answer, the fault, the client's departure).

As at AWS, a call whose client has left still runs to its end and is debited;
it is logged with ``"delivered": false`` and counted as disconnected at once.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

from aws_errors import AwsError
from http_server import Connection, Request

if TYPE_CHECKING:
    from faults import Fault
    from journal import Counters, Journal

ATTEMPT = re.compile(r"attempt=(\d{1,9})(?:;|$)")


def new_request_id() -> str:
    """A random (version 4) UUID; the uuid module takes four times as long."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


class Exchange:
    """See the head of this file."""

    __slots__ = ("journal", "request", "connection", "request_id", "operation", "model_id",
                 "account", "region", "inference_region", "usage", "metadata", "fault",
                 "_arrived", "_started", "_counters", "_delivered", "_open_end", "_written")

    def __init__(self, journal: Journal, request: Request, connection: Connection) -> None:
        self.journal = journal
        self.request = request
        self.connection = connection
        self.request_id = new_request_id()
        self.operation: str | None = None
        self.model_id = ""
        self.account = ""
        self.region = ""
        self.inference_region: str | None = None
        self.usage: dict[str, int] = {}
        self.metadata: dict[str, str] | None = None
        self.fault: Fault | None = None
        self._arrived = time.time()
        self._started = time.monotonic()
        self._counters: tuple[Counters, ...] = ()
        self._delivered = True
        self._written = False
        self._open_end: tuple[int, str | None] | None = None

    def begin(self) -> None:
        """Count the request in, as soon as it is known whose it is."""
        key = (self.account, self.region, self.model_id)
        self._counters = self.journal.begin(key, self.request_id, self.request)
        self.connection.on_disconnect = self._disconnected

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self._started) * 1000)

    def headers(self) -> list[tuple[str, str]]:
        return [("Content-Type", "application/json"), ("x-amzn-RequestId", self.request_id)]

    def refuse(self, error: AwsError) -> None:
        self.end(error.status, error.name)
        self.connection.respond(error.status, [*self.headers(), error.header()], error.body())

    def wait_for_disconnect(self, status: int, error: str | None) -> None:
        """The client will have to give up: that is when the exchange ends."""
        if self._delivered:
            self._open_end = (status, error)
        else:
            self.end(status, error, whole=False)

    def end(self, status: int, error: str | None, *, whole: bool = True) -> None:
        """Count the request out and log it.  ``whole``: the answer goes to the
        socket completely, now or just before."""
        self._open_end = None
        self._written = whole and self._delivered and self.connection.is_open
        self.connection.on_disconnect = None
        for counters in self._counters:
            counters.end(status)
        self.journal.write(self._entry(status, error))

    def _disconnected(self) -> None:
        self._delivered = False
        for counters in self._counters:
            counters.disconnected += 1
        if self._open_end is not None:
            self.end(*self._open_end, whole=False)

    def _entry(self, status: int, error: str | None) -> dict[str, Any]:
        usage = self.usage
        return {
            "requestId": self.request_id,
            "time": self._arrived,
            "account": self.account,
            "region": self.region,
            "operation": self.operation,
            "modelId": self.model_id,
            "inferenceRegion": self.inference_region,
            "status": status,
            "error": error,
            "inputTokens": usage.get("inputTokens"),
            "outputTokens": usage.get("outputTokens"),
            "cacheReadInputTokens": usage.get("cacheReadInputTokens"),
            "cacheWriteInputTokens": usage.get("cacheWriteInputTokens"),
            "latencyMs": self.elapsed_ms(),
            "requestMetadata": self.metadata,
            "fault": self.fault.kind if self.fault else None,
            "delivered": self._delivered,
            "written": self._written,
            "callId": self.request.headers.get("amz-sdk-invocation-id"),
            "attempt": attempt_of(self.request),
        }


def attempt_of(request: Request) -> int | None:
    """What the client says which attempt of its call this is."""
    match = ATTEMPT.search(request.headers.get("amz-sdk-request", ""))
    return int(match[1]) if match else None
