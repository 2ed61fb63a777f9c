"""The simulator's configuration: one JSON object, checked and compiled.

Owns: the meaning of every configuration key.  ``default_config.json`` is both
the built-in configuration and the list of the keys that exist: a key that is
not in it is refused, so that a typing error in a test does not pass silently.

``Config`` is immutable.  A change builds a new one from the merged JSON and
replaces the old; whatever was admitted under the old one ends under it.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

DEFAULT_FILE = Path(__file__).with_name("default_config.json")

STOP_REASONS = ("end_turn", "tool_use", "max_tokens", "stop_sequence", "guardrail_intervened",
                "content_filtered", "malformed_model_output", "malformed_tool_use",
                "model_context_window_exceeded")
MODEL_NUMBERS = ("context_window", "max_output_tokens", "burndown", "latency_ms",
                 "latency_jitter_ms", "ms_per_output_token")
REPLY_KINDS = ("echo", "choice", "fixed", "content")


class ConfigError(Exception):
    """The configuration or a control request makes no sense; the text says why."""


@dataclass(frozen=True)
class Credential:
    """One access key of an account; an account may have several."""

    account: str
    access_key: str
    secret_key: str
    session_token: str | None = None
    expired: bool = False
    denied_models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A foundation model: limits, behaviour and how it answers."""

    model_id: str
    context_window: int
    max_output_tokens: int
    burndown: int               # quota tokens per output token at settlement
    profile_only: bool          # the bare id is refused
    retired: bool               # ResourceNotFoundException
    regions: tuple[str, ...] | None   # where the bare id is offered; None: everywhere
    profiles: tuple[str, ...] | None  # geographies that offer it; None: all
    sampling: str               # any | one (temperature or topP) | none
    prefill: bool               # may the last message be the assistant's
    reply: dict[str, Any]
    usage: dict[str, int]       # overrides of the estimated counts
    latency_ms: float
    latency_jitter_ms: float
    ms_per_output_token: float


@dataclass(frozen=True)
class Quota:
    """A limit; ``*`` matches anything, and each match has a counter of its own."""

    account: str = "*"
    region: str = "*"
    model: str = "*"
    rpm: int | None = None
    tpm: int | None = None
    concurrent: int | None = None


class Config:
    """The compiled form of one configuration object."""

    def __init__(self, raw: dict[str, Any]) -> None:
        known = default_json()
        refuse_unknown(raw, known, "configuration")
        self.raw = raw
        self.seed: int = raw["seed"]
        self.verify: bool = raw["verify"]
        self.spread: str = one_of(raw["spread"], ("weighted", "round_robin"), "spread")
        self.quota_window_s: float = raw["quota_window_s"]
        self.clock_offset_s: float = raw["clock_offset_s"]
        self.log_limit: int = raw["log_limit"]
        self.requests_limit: int = raw["requests_limit"]
        if not raw["accounts"] or not raw["regions"]:
            raise ConfigError("at least one account and one Region are needed")
        self.regions = frozenset(raw["regions"])
        self.credentials = {item.access_key: item
                            for item in map(compile_credential, raw["accounts"])}
        # Who an unsigned caller is while nothing is verified.
        self.anonymous = (raw["accounts"][0]["account"], raw["regions"][0])
        self.denied_models = {(item.account, model) for item in self.credentials.values()
                              for model in item.denied_models}
        self.profiles = {prefix: compile_profile(prefix, regions)
                         for prefix, regions in raw["profiles"].items()}
        self.application_profiles: dict[str, str] = raw["application_profiles"]
        refuse_unknown(raw["defaults"], known["defaults"], "defaults")
        defaults = known["defaults"] | raw["defaults"]
        self.models = {model_id: compile_model(model_id, item, defaults)
                       for model_id, item in raw["models"].items()}
        self.quotas = [compile_quota(item) for item in raw["quotas"]]


def default_json() -> dict[str, Any]:
    return json.loads(DEFAULT_FILE.read_text(encoding="utf-8"))


def load(sections: dict[str, Any]) -> Config:
    """The built-in configuration with whole top-level sections replaced."""
    return checked(default_json() | require_object(sections, "configuration"))


def patched(config: Config, changes: dict[str, Any]) -> Config:
    """``config`` with ``changes`` merged into it, object by object; lists and
    scalars are replaced, and null removes a key."""
    require_object(changes, "configuration")
    return checked(merge(copy.deepcopy(config.raw), changes))


def checked(raw: dict[str, Any]) -> Config:
    try:
        return Config(raw)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"malformed configuration: {error!r}") from error


def merge(target: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict) and key != "reply":
            merge(target[key], value)
        else:
            target[key] = value
    return target


def compile_credential(item: dict[str, Any]) -> Credential:
    denied = tuple(item.get("denied_models", ()))
    return build(Credential, item | {"denied_models": denied}, "account")


def compile_profile(prefix: str, regions: list[str] | dict[str, float]) -> dict[str, float]:
    """Region to weight; a plain list means equal weights."""
    weights = regions if isinstance(regions, dict) else dict.fromkeys(regions, 1.0)
    if not weights or min(weights.values()) < 0 or not any(weights.values()):
        raise ConfigError(f"profile '{prefix}' needs Regions with a positive weight")
    return weights


def compile_model(model_id: str, item: dict[str, Any], defaults: dict[str, Any]) -> Model:
    values = defaults | item
    values["reply"] = compile_reply(values["reply"])
    one_of(values["sampling"], ("any", "one", "none"), "sampling")
    for key in MODEL_NUMBERS:
        if not isinstance(values[key], (int, float)) or values[key] < 0:
            raise ConfigError(f"{key} of model '{model_id}' must be a number from 0 up")
    for key in ("regions", "profiles"):
        values[key] = None if values[key] is None else tuple(values[key])
    return build(Model, values | {"model_id": model_id}, f"model '{model_id}'")


def compile_quota(item: dict[str, Any]) -> Quota:
    quota = build(Quota, item, "quota")
    for limit in (quota.rpm, quota.tpm, quota.concurrent):
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise ConfigError("rpm, tpm and concurrent must be whole numbers, or null for no limit")
    return quota


def compile_reply(reply: Any) -> dict[str, Any]:
    """``"echo"`` is short for ``{"echo": true}``; see replies.py for the kinds."""
    if isinstance(reply, str):
        reply = {reply: True}
    require_object(reply, "reply")
    refuse_unknown(reply, dict.fromkeys((*REPLY_KINDS, "stop_reason")), "reply")
    if sum(kind in reply for kind in REPLY_KINDS) > 1:
        raise ConfigError(f"a reply has one of {', '.join(REPLY_KINDS)}")
    if "stop_reason" in reply:
        one_of(reply["stop_reason"], STOP_REASONS, "stop_reason")
    return reply


def build(shape: type, values: dict[str, Any], what: str) -> Any:
    require_object(values, what)
    refuse_unknown(values, {field.name: None for field in fields(shape)}, what)
    return shape(**values)


def refuse_unknown(values: dict[str, Any], known: dict[str, Any], what: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"unknown key in {what}: {', '.join(unknown)}")


def require_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what} must be a JSON object")
    return value


def one_of(value: Any, allowed: tuple[str, ...], what: str) -> Any:
    if value not in allowed:
        raise ConfigError(f"{what} must be one of {', '.join(allowed)}")
    return value
