"""How a scripted fault looks on the wire.

Owns: the bytes (and silences) of every fault kind.  ``strike`` acts instead of
an invocation, ``deliver`` in place of a regular answer.  Each function ends
its exchange: at once, from a timer, or, for the open-ended kinds, when the
client gives up.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aws_errors import ERRORS, AwsError, json_bytes
from faults import Fault

if TYPE_CHECKING:
    from exchange import Exchange

HTML = ("<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n"
        "<center><h1>{status} {reason}</h1></center>\r\n</body>\r\n</html>\r\n")
HTML_REASONS = {502: "Bad Gateway", 503: "Service Temporarily Unavailable"}
DRIP_TICK_S = 0.05
RESET_DELAY_S = 0.05


def strike(exchange: Exchange, fault: Fault) -> None:
    """Answer a request that is not invoked."""
    if fault.kind in ERRORS:
        refuse(exchange, fault)
    elif fault.kind == "html_error_page":
        status = fault.status or 503
        page = HTML.format(status=status, reason=HTML_REASONS.get(status, "Error")).encode()
        exchange.end(status, fault.kind)
        exchange.connection.respond(
            status, [("Content-Type", "text/html"), *fault.headers.items()], page)
    elif fault.kind == "reset_before_headers":
        exchange.end(0, fault.kind, whole=False)
        exchange.connection.reset()
    else:
        exchange.wait_for_disconnect(0, fault.kind)


def refuse(exchange: Exchange, fault: Fault) -> None:
    """A modelled error, with the variations that clients meet in the wild."""
    error = AwsError(fault.kind, fault.message)
    status = fault.status or error.status
    headers = exchange.headers()
    if isinstance(fault.error_type_header, str):
        headers.append(("x-amzn-ErrorType", fault.error_type_header))
    elif fault.error_type_header:
        headers.append(error.header())
    members: dict[str, Any] = {"__type": error.name} if fault.type_in_body else {}
    members[fault.message_key] = error.message
    members |= {name: getattr(fault, name) for name in ("originalStatusCode", "resourceName")
                if getattr(fault, name) is not None}
    exchange.end(status, error.name)
    exchange.connection.respond(status, headers + list(fault.headers.items()),
                                raw_body(fault, json_bytes(members)))


def raw_body(fault: Fault, otherwise: bytes) -> bytes:
    """The body that the script gives, if it gives one: a text as it is, else JSON."""
    if fault.body is None:
        return otherwise
    return fault.body.encode() if isinstance(fault.body, str) else json_bytes(fault.body)


def deliver(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    """Send ``answer`` the way the fault wants it."""
    DELIVERIES[fault.kind](exchange, fault, answer)


# -- whole answers with the wrong content ------------------------------------

def send(exchange: Exchange, fault: Fault, body: bytes) -> None:
    status = fault.status or 200
    exchange.end(status, None)
    exchange.connection.respond(status, exchange.headers() + list(fault.headers.items()), body)


def send_reply(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    send(exchange, fault, json_bytes(answer))


def send_json(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    send(exchange, fault, raw_body(fault, b"{}"))


def send_invalid_json(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    send(exchange, fault, raw_body(fault, json_bytes(answer)[:-1] + b","))


def send_nothing(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    send(exchange, fault, b"")


def send_huge_body(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    """A well-formed answer of at least ``bytes`` bytes."""
    send(exchange, fault, json_bytes(with_text(answer, "x" * fault.bytes)))


def send_nul_escape(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    send(exchange, fault, json_bytes(with_text(answer, "before\u0000after")))


def send_lone_surrogate(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    send(exchange, fault, json.dumps(with_text(answer, "before\ud800after")).encode())


def send_deep_nesting(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    nest = b"[" * fault.depth + b"]" * fault.depth
    body = json_bytes(answer)[:-1] + b',"additionalModelResponseFields":' + nest + b"}"
    send(exchange, fault, body)


def with_text(answer: dict[str, Any], text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"text": text}]}
    return answer | {"output": {"message": message}}


# -- answers that go wrong on the way ----------------------------------------

def send_head(exchange: Exchange, fault: Fault, length: int) -> None:
    headers = exchange.headers() + list(fault.headers.items())
    exchange.connection.write(exchange.connection.head(200, headers, length))


def send_truncated(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    """Content-Length promises the whole body; the connection closes before it."""
    body = json_bytes(answer)
    send_head(exchange, fault, len(body))
    exchange.connection.write(body[:-fault.drop_bytes])
    exchange.end(200, None, whole=False)
    exchange.connection.finish(close=True)


def send_wrong_length(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    """Content-Length is too small: the rest of the body follows on a connection
    that stays open, where the next answer is expected."""
    body = json_bytes(answer)
    send_head(exchange, fault, len(body) - fault.drop_bytes)
    exchange.connection.write(body)
    exchange.end(200, None)
    exchange.connection.finish()


def send_and_close(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    """A good answer on a connection that then closes without having said so."""
    body = json_bytes(answer)
    send_head(exchange, fault, len(body))
    exchange.connection.write(body)
    exchange.end(200, None)
    exchange.connection.finish(close=True)


def hang_after_headers(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    send_head(exchange, fault, len(json_bytes(answer)))
    exchange.wait_for_disconnect(200, None)


def reset_after_headers(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    """Headers and half the body, time for the client to read them, then RST."""
    body = json_bytes(answer)
    send_head(exchange, fault, len(body))
    exchange.connection.write(body[:len(body) // 2])
    exchange.end(200, None, whole=False)
    asyncio.get_running_loop().call_later(RESET_DELAY_S, exchange.connection.reset)


def send_slowly(exchange: Exchange, fault: Fault, answer: dict[str, Any]) -> None:
    body = json_bytes(answer)
    send_head(exchange, fault, len(body))
    exchange.wait_for_disconnect(200, None)
    step = max(1, int(fault.bytes_per_sec * DRIP_TICK_S))
    tick = step / fault.bytes_per_sec
    drip(exchange, body, step, tick)


def drip(exchange: Exchange, rest: bytes, step: int, tick: float) -> None:
    if not exchange.connection.is_open:
        return
    exchange.connection.write(rest[:step])
    if len(rest) > step:
        asyncio.get_running_loop().call_later(tick, drip, exchange, rest[step:], step, tick)
    else:
        exchange.end(200, None)
        exchange.connection.finish()


DELIVERIES: dict[str, Callable[[Exchange, Fault, dict[str, Any]], None]] = {
    "reply": send_reply,
    "json": send_json,
    "invalid_json": send_invalid_json,
    "empty_body": send_nothing,
    "huge_body": send_huge_body,
    "nul_escape": send_nul_escape,
    "lone_surrogate": send_lone_surrogate,
    "deep_nesting": send_deep_nesting,
    "truncated_body": send_truncated,
    "wrong_content_length": send_wrong_length,
    "slow_drip": send_slowly,
    "close_idle": send_and_close,
    "hang_after_headers": hang_after_headers,
    "reset_after_headers": reset_after_headers,
}
