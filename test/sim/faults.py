"""Scripted faults: which request gets which fault, and when.

Owns: the fault vocabulary and the queues.  A *rule* is a match on account,
Region and model with a queue of faults.  A request takes the head of the
first rule that matches and is not used up; a fault serves ``times`` requests
(default 1, -1 for ever) before the next one moves up.

A fault strikes at one of two stages.  ``BEFORE``: instead of the invocation,
so nothing is validated and no quota is used.  ``ANSWER``: the call is
validated, debited and run, and its answer is damaged on the way back.  While
a rule's head belongs to the other stage, the rule has nothing to give.

How a fault looks on the wire is in damage.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from aws_errors import full_name
from config import ConfigError, build, compile_reply, refuse_unknown, require_object

BEFORE = "before"
ANSWER = "answer"

# kind: stage.  The names of aws_errors.ERRORS are kinds too, all of them BEFORE.
STAGES = {
    "reset_before_headers": BEFORE,
    "hang": BEFORE,
    "html_error_page": BEFORE,
    "reply": ANSWER,
    "json": ANSWER,
    "invalid_json": ANSWER,
    "empty_body": ANSWER,
    "huge_body": ANSWER,
    "nul_escape": ANSWER,
    "lone_surrogate": ANSWER,
    "deep_nesting": ANSWER,
    "truncated_body": ANSWER,
    "wrong_content_length": ANSWER,
    "slow_drip": ANSWER,
    "close_idle": ANSWER,
    "hang_after_headers": ANSWER,
    "reset_after_headers": ANSWER,
}


@dataclass
class Fault:
    """One scripted fault; most fields matter to a few kinds only."""

    kind: str
    times: int = 1
    delay_ms: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    # AWS errors
    message: str | None = None
    message_key: str = "message"
    type_in_body: bool = False
    error_type_header: bool | str = True
    originalStatusCode: int | None = None
    resourceName: str | None = None
    body: Any = None
    # damage
    bytes: int = 20_000_000
    bytes_per_sec: float = 100
    drop_bytes: int = 10
    depth: int = 10_000
    # reply
    reply: dict[str, Any] | None = None
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        return STAGES.get(self.kind, BEFORE)


class Rule:
    """A match and its queue."""

    def __init__(self, match: dict[str, str], faults: list[Fault]) -> None:
        self.match = match
        self.queue = deque(faults)

    def matches(self, account: str, region: str, models: Collection[str]) -> bool:
        wanted = self.match
        return (wanted.get("account", "*") in ("*", account)
                and wanted.get("region", "*") in ("*", region)
                and (wanted.get("model", "*") == "*" or wanted["model"] in models))

    def take(self) -> Fault:
        fault = self.queue[0]
        if fault.times > 0:
            fault.times -= 1
            if fault.times == 0:
                self.queue.popleft()
        return fault


class Faults:
    """All rules, in the order in which they were made."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, script: Any) -> int:
        """Add the rule of a control request; how many faults it holds."""
        require_object(script, "fault rule")
        refuse_unknown(script, {"match": None, "faults": None}, "fault rule")
        match = require_object(script.get("match", {}), "match")
        refuse_unknown(match, dict.fromkeys(("account", "region", "model")), "match")
        faults = [compile_fault(item) for item in script.get("faults", [])]
        if not faults:
            raise ConfigError("a fault rule needs 'faults'")
        self._rules.append(Rule(match, faults))
        return len(faults)

    def clear(self) -> None:
        self._rules.clear()

    def take(self, stage: str, account: str, region: str,
             models: Collection[str]) -> Fault | None:
        """The fault that strikes this request at ``stage``, used up by one."""
        for rule in self._rules:
            if rule.queue and rule.matches(account, region, models):
                return rule.take() if rule.queue[0].stage == stage else None
        return None

    def report(self) -> list[dict[str, Any]]:
        """What is still to come."""
        return [{"match": rule.match,
                 "faults": [{"kind": fault.kind, "times": fault.times} for fault in rule.queue]}
                for rule in self._rules if rule.queue]


def compile_fault(item: Any) -> Fault:
    item = dict(require_object(item, "fault"))
    if "count" in item:
        item["times"] = item.pop("count")
    kind = item.get("kind", "")
    if kind not in STAGES:
        item["kind"] = full_name(kind)
        if item["kind"] is None:
            raise ConfigError(f"unknown fault kind '{kind}'")
    if item.get("reply") is not None:
        item["reply"] = compile_reply(item["reply"])
    fault = build(Fault, item, "fault")
    if not isinstance(fault.times, int) or fault.times == 0 or fault.times < -1:
        raise ConfigError("times must be positive, or -1 for ever")
    return fault
