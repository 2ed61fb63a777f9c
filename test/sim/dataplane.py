"""The Bedrock runtime endpoint.

Owns: the order in which a request is treated.

    route -> who calls (SigV4) -> which model -> scripted fault instead?
    -> validate -> quota -> scripted fault on the answer? -> compose
    -> wait (latency) -> settle the quota, log, answer

Everything up to the wait happens in one go, so admissions are atomic and in
order of arrival.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from functools import lru_cache, partial
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import converse
import damage
import sigv4
from aws_errors import AwsError, json_bytes
from config import Config
from exchange import Exchange
from faults import ANSWER, BEFORE, Fault, Faults
from http_server import Connection, Request
from journal import Journal
from models import Resolved, Resolver, Spread
from quota import Charge, Quotas

ROUTE = re.compile(r"/model/([^/]+)/([a-z-]+)")
OPERATIONS: dict[tuple[str, str], tuple[str, ModuleType]] = {
    ("POST", "converse"): ("Converse", converse),
}


class DataPlane:
    """The state of the simulated service and the treatment of its requests."""

    def __init__(self, config: Config) -> None:
        self.faults = Faults()
        self.quotas = Quotas(config.quotas, config.quota_window_s)
        self.configure(config)
        self.reset()

    def configure(self, config: Config) -> None:
        """Work under another configuration from now on; usage and log stay."""
        self.config = config
        self.quotas.configure(config.quotas, config.quota_window_s)
        self._resolver = Resolver(config)
        self._spread = Spread(config)
        self._random = random.Random(config.seed)

    def reset(self) -> None:
        """Forget what happened: log, counters, faults, quota usage, random state."""
        self.journal = Journal(self.config.log_limit, self.config.requests_limit)
        self.faults.clear()
        self.quotas.reset()
        self._spread = Spread(self.config)
        self._random = random.Random(self.config.seed)

    def handle(self, request: Request, connection: Connection) -> None:
        exchange = Exchange(self.journal, request, connection)
        try:
            self._treat(exchange)
        except AwsError as error:
            exchange.refuse(error)
        except Exception:
            exchange.end(500, "simulator defect")
            raise

    def _treat(self, exchange: Exchange) -> None:
        operation = self._identify(exchange)
        resolved = self._resolver.resolve(exchange.model_id, exchange.account, exchange.region)
        fault = self._take_fault(BEFORE, exchange, resolved)
        if fault is not None:
            after(fault.delay_ms / 1000, partial(damage.strike, exchange, fault))
            return
        model = resolved.model
        call = operation.parse(exchange.request.body, model)
        exchange.metadata = call.metadata
        charge = self._admit(exchange, resolved, call)
        exchange.inference_region = self._spread.choose(resolved.profile, exchange.region)
        fault = self._take_fault(ANSWER, exchange, resolved)
        mode, usage = model.reply, model.usage
        if fault is not None:
            mode, usage = fault.reply or mode, usage | fault.usage
        answer = operation.answer(call, model, mode, usage)
        exchange.usage = answer.usage
        delay = self._latency(resolved, answer.usage["outputTokens"])
        if fault is not None:
            delay += fault.delay_ms / 1000
        after(delay, partial(finish, exchange, charge, model.burndown, answer.body))

    def _identify(self, exchange: Exchange) -> ModuleType:
        """Fill in who asks for what; the operation that does it."""
        request, config = exchange.request, self.config
        exchange.model_id, action = route(request.path)
        claim = sigv4.read_claim(request)
        credential = config.credentials.get(claim.access_key) if claim else None
        if claim and credential:
            exchange.account, exchange.region = credential.account, claim.region
        elif not config.verify:
            exchange.account, exchange.region = config.anonymous
        exchange.begin()
        known = OPERATIONS.get((request.method, action))
        if known is None:
            raise AwsError("UnknownOperationException")
        exchange.operation, operation = known
        if config.verify:
            sigv4.verify(claim, request, config.credentials, config.regions,
                         time.time() + config.clock_offset_s)
        return operation

    def _take_fault(self, stage: str, exchange: Exchange, resolved: Resolved) -> Fault | None:
        names = (exchange.model_id, resolved.target, resolved.model.model_id)
        fault = self.faults.take(stage, exchange.account, exchange.region, names)
        if fault is not None:
            exchange.fault = fault
        return fault

    def _admit(self, exchange: Exchange, resolved: Resolved, call: Any) -> Charge | None:
        """Reserve what Bedrock reserves: the whole input and maxTokens."""
        usage = resolved.model.usage
        reservation = (usage.get("inputTokens", call.input_tokens) + call.max_tokens
                       + usage.get("cacheReadInputTokens", 0)
                       + usage.get("cacheWriteInputTokens", 0))
        key = (exchange.account, exchange.region, resolved.target)
        return self.quotas.admit(key, reservation)

    def _latency(self, resolved: Resolved, output_tokens: int) -> float:
        """Seconds that the model takes."""
        model = resolved.model
        wait = model.latency_ms + model.ms_per_output_token * output_tokens
        if model.latency_jitter_ms:
            wait += self._random.uniform(0, model.latency_jitter_ms)
        return wait / 1000


@lru_cache(maxsize=4096)
def route(path: str) -> tuple[str, str]:
    """Model id and action of a path; empty if it has none."""
    match = ROUTE.fullmatch(path)
    return (unquote(match[1]), match[2]) if match else ("", "")


def finish(exchange: Exchange, charge: Charge | None, burndown: int,
           body: dict[str, Any]) -> None:
    """The model is done: settle, log, answer."""
    usage = exchange.usage
    if charge is not None:
        charge.settle(usage["inputTokens"] + usage.get("cacheWriteInputTokens", 0)
                      + usage["outputTokens"] * burndown)
    body["metrics"] = {"latencyMs": exchange.elapsed_ms()}
    if exchange.fault is not None:
        damage.deliver(exchange, exchange.fault, body)
        return
    exchange.end(200, None)
    exchange.connection.respond(200, exchange.headers(), json_bytes(body))


def after(seconds: float, action: Callable[[], None]) -> None:
    """Now if there is nothing to wait for, else from a timer."""
    if seconds > 0:
        asyncio.get_running_loop().call_later(seconds, action)
    else:
        action()
