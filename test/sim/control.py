"""The control plane: plain HTTP and JSON for test scripts.

Owns: the routes of the control port.  Every answer is a JSON object; a request
that makes no sense gets 400 (404 for an unknown route) and ``{"error": ...}``.
README.md lists the routes with examples.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import config as configuration
from aws_errors import json_bytes
from config import ConfigError
from dataplane import DataPlane
from http_server import Connection, HttpServer, Request

JSON_TYPE = [("Content-Type", "application/json")]
DEFAULT_REQUESTS = 20


class ControlPlane:
    """The handler of the control port."""

    def __init__(self, data_plane: DataPlane, data_server: HttpServer) -> None:
        self._data = data_plane
        self._server = data_server
        self._routes: dict[tuple[str, str], Callable[[Request], dict[str, Any]]] = {
            ("GET", "/health"): self._health,
            ("POST", "/reset"): self._reset,
            ("GET", "/config"): lambda request: self._data.config.raw,
            ("PUT", "/config"): self._replace_config,
            ("PATCH", "/config"): self._patch_config,
            ("GET", "/faults"): lambda request: {"rules": self._data.faults.report()},
            ("POST", "/faults"): self._add_faults,
            ("DELETE", "/faults"): self._clear_faults,
            ("GET", "/log"): self._log,
            ("GET", "/ledger"): self._ledger,
            ("GET", "/stats"): self._stats,
            ("GET", "/requests"): self._requests,
            ("DELETE", "/connections"): lambda request: {"closed": self._server.close_idle()},
        }

    def handle(self, request: Request, connection: Connection) -> None:
        route = self._routes.get((request.method, request.path))
        if route is None:
            answer = 404, {"error": f"no such route: {request.method} {request.path}"}
        else:
            try:
                answer = 200, route(request)
            except ConfigError as error:
                answer = 400, {"error": str(error)}
        connection.respond(answer[0], JSON_TYPE, json_bytes(answer[1]) + b"\n")

    def _health(self, request: Request) -> dict[str, Any]:
        return {"status": "ok", "pid": os.getpid()}

    def _reset(self, request: Request) -> dict[str, Any]:
        self._data.reset()
        return {"reset": True}

    def _replace_config(self, request: Request) -> dict[str, Any]:
        return self._configure(configuration.load(body_of(request)))

    def _patch_config(self, request: Request) -> dict[str, Any]:
        return self._configure(configuration.patched(self._data.config, body_of(request)))

    def _configure(self, config: configuration.Config) -> dict[str, Any]:
        self._data.configure(config)
        self._server.clock_offset_s = config.clock_offset_s
        return {"configured": True}

    def _add_faults(self, request: Request) -> dict[str, Any]:
        return {"added": self._data.faults.add(body_of(request))}

    def _clear_faults(self, request: Request) -> dict[str, Any]:
        self._data.faults.clear()
        return {"cleared": True}

    def _log(self, request: Request) -> dict[str, Any]:
        since = number_of(request, "since", 0)
        entries = self._data.journal.since(since)
        return {"entries": entries, "last": entries[-1]["seq"] if entries else since}

    def _ledger(self, request: Request) -> dict[str, Any]:
        return self._data.journal.ledger(number_of(request, "since", 0))

    def _stats(self, request: Request) -> dict[str, Any]:
        return self._data.journal.stats() | {
            "connections": {"opened": self._server.opened,
                            "open": len(self._server.connections)},
            "quotas": self._data.quotas.usage(),
        }

    def _requests(self, request: Request) -> dict[str, Any]:
        count = number_of(request, "n", DEFAULT_REQUESTS)
        return {"requests": self._data.journal.last_requests(count)}


def body_of(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except ValueError as error:
        raise ConfigError(f"the body is not JSON: {error}") from error


def number_of(request: Request, name: str, default: int) -> int:
    try:
        return int(parse_qs(request.query).get(name, [default])[0])
    except ValueError as error:
        raise ConfigError(f"{name} must be a number") from error
