"""A lean HTTP/1.1 server on asyncio protocols.

Owns: sockets, request framing, keep-alive, and the idea of an *exchange* (one
request and its answer).  Knows nothing about Bedrock.

One ``Connection`` carries one exchange at a time.  A complete request is
handed to ``handler(request, connection)``; from then on the handler owns the
exchange until it calls exactly one of

* ``respond``  a normal answer; the connection goes on to the next request;
* ``finish``   the same, after the handler wrote raw bytes itself;
* ``reset``    the connection is torn down with a TCP RST;

or until the client leaves, in which case ``on_disconnect`` is called once.
A handler may do this at once or much later from a timer: there is no task per
request, so thousands of waiting requests cost one timer each.

Bytes that arrive while an exchange is running (pipelining) stay in the buffer;
reading is paused when they become many.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

MAX_HEAD = 64 * 1024
MAX_BODY = 25_000_000
MAX_PIPELINED = 64 * 1024
BACKLOG = 4096

Headers = Iterable[tuple[str, str]]
Handler = Callable[["Request", "Connection"], None]

REASONS = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(Exception):
    """The bytes are not an HTTP request that this server takes."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Request:
    """One parsed request.  Header names are lower case; repeated headers are
    joined by a comma, which is also their SigV4 canonical form."""

    __slots__ = ("method", "path", "query", "headers", "body", "keep_alive", "body_length")

    def __init__(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        try:
            self.method, target, version = first.split(" ")
        except ValueError:
            raise BadRequest(400, "malformed request line") from None
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise BadRequest(505, "HTTP version not supported")
        self.path, _, self.query = target.partition("?")
        self.headers = parse_headers(lines)
        self.body = b""
        self.body_length = self._declared_length()
        self.keep_alive = (version == "HTTP/1.1"
                           and "close" not in self.headers.get("connection", "").lower())

    def _declared_length(self) -> int:
        if "transfer-encoding" in self.headers:
            raise BadRequest(501, "transfer encodings are not supported in requests")
        declared = self.headers.get("content-length", "0")
        if not declared.isdecimal():
            raise BadRequest(400, "malformed Content-Length")
        if int(declared) > MAX_BODY:
            raise BadRequest(413, "request body too large")
        return int(declared)


def parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400, "malformed header line")
        name = name.lower()
        value = value.strip(" \t")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


class Connection(asyncio.Protocol):
    """One client connection; see the head of this file for its life."""

    __slots__ = ("server", "on_disconnect", "_transport", "_lost", "_buffer", "_request",
                 "_busy", "_parsing", "_keep_alive")

    _transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.on_disconnect: Callable[[], None] | None = None
        self._lost = False
        self._buffer = bytearray()
        self._request: Request | None = None
        self._busy = False
        self._parsing = False
        self._keep_alive = True

    # -- called by asyncio ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.server.opened += 1
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.server.connections.discard(self)
        if self._busy and self.on_disconnect is not None:
            self.on_disconnect()
            self.on_disconnect = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._serve_buffer()
        elif len(self._buffer) > MAX_PIPELINED:
            self._transport.pause_reading()

    # -- for handlers --------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return not self._lost and not self._transport.is_closing()

    def head(self, status: int, headers: Headers, length: int) -> bytes:
        """The status line and headers of an answer of ``length`` body bytes."""
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}",
                 f"Date: {self.server.date()}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines.append(f"Content-Length: {length}")
        lines.append(f"Connection: {'keep-alive' if self._keep_alive else 'close'}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1")

    def write(self, data: bytes) -> None:
        if self.is_open:
            self._transport.write(data)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        if self.is_open:
            self._transport.write(self.head(status, headers, len(body)) + body)
        self.finish()

    def finish(self, close: bool = False) -> None:
        """End the exchange; with ``close`` the connection ends with it."""
        self._busy = False
        self.on_disconnect = None
        if not self.is_open:
            return
        if close or not self._keep_alive:
            self._transport.close()
            return
        if not self._parsing:
            self._transport.resume_reading()
            self._serve_buffer()

    def reset(self) -> None:
        """End the exchange and the connection with a TCP RST."""
        self._busy = False
        self.on_disconnect = None
        if not self._lost:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def close_if_idle(self) -> bool:
        idle = not self._busy and not self._buffer and self._request is None
        if idle:
            self._transport.close()
        return idle

    # -- framing -------------------------------------------------------------

    def _serve_buffer(self) -> None:
        """Start an exchange for each complete request, one after the other."""
        self._parsing = True
        try:
            while not self._busy and self.is_open and (request := self._read_request()):
                self._request = None
                self._busy = True
                self._keep_alive = request.keep_alive
                self._call_handler(request)
        except BadRequest as error:
            self._keep_alive = False
            body = f"{error}\n".encode()
            self.respond(error.status, [("Content-Type", "text/plain")], body)
        finally:
            self._parsing = False

    def _read_request(self) -> Request | None:
        """The next request if all of it is here; its head is parsed only once."""
        if self._request is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
                raise BadRequest(431, "request head too large")
            if end < 0:
                return None
            self._request = Request(self._buffer[:end].decode("latin-1"))
            del self._buffer[:end + 4]
            if (len(self._buffer) < self._request.body_length
                    and self._request.headers.get("expect", "").lower() == "100-continue"):
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = self._request.body_length
        if len(self._buffer) < length:
            return None
        self._request.body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return self._request

    def _call_handler(self, request: Request) -> None:
        try:
            self.server.handler(request, self)
        except Exception:  # a defect of the simulator: say so, loudly, and live on
            traceback.print_exc(file=sys.stderr)
            self._keep_alive = False
            self.respond(500, [("Content-Type", "text/plain")], b"simulator defect\n")


class HttpServer:
    """A handler and the connections that serve it, on any number of ports."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections: set[Connection] = set()
        self.opened = 0
        self.clock_offset_s = 0.0
        self._date = (0, "")

    async def listen(self, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen on loopback; the port that was bound (0 asks for a free one)."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port,
                                          ssl=tls, backlog=BACKLOG)
        return server.sockets[0].getsockname()[1]

    def date(self) -> str:
        """The Date header, made once a second."""
        second = int(time.time() + self.clock_offset_s)
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def close_idle(self) -> int:
        """Close the connections that carry no exchange; how many there were."""
        return sum(connection.close_if_idle() for connection in list(self.connections))
