"""Requests and tokens per minute, as Bedrock counts them, and calls at a time.

Owns: one ``Bucket`` per account, source Region and target id.  The window
slides: an event counts for exactly ``window`` seconds after its admission, so
no interval of that length ever holds more than the limit.

Tokens follow Bedrock's two steps.  Admission reserves input + cache reads +
cache writes + maxTokens; settlement replaces the reservation by input + cache
writes + output x burndown, still dated at the admission.  A call that runs
longer than the window keeps its reservation until it is settled.

A call is running from its admission to its settlement.  A limit on that is no
published quota; it stands for the capacity of a service, which is short
whatever the quotas say.

Nothing is debited unless all limits allow it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any

from aws_errors import TOO_MANY_REQUESTS, TOO_MANY_TOKENS, AwsError
from config import Quota


class Charge:
    """The tokens of one admitted call: a reservation until it is settled."""

    __slots__ = ("bucket", "admitted_at", "tokens", "settled")

    def __init__(self, bucket: Bucket, admitted_at: float, tokens: int) -> None:
        self.bucket = bucket
        self.admitted_at = admitted_at
        self.tokens = tokens
        self.settled = False

    def settle(self, tokens: int) -> None:
        self.bucket.running -= not self.settled
        self.bucket.tokens += tokens - self.tokens
        self.tokens = tokens
        self.settled = True


class Bucket:
    """The usage of one account, Region and target id."""

    def __init__(self) -> None:
        self.requests: deque[float] = deque()
        self.charges: deque[Charge] = deque()
        self.tokens = 0
        self.running = 0
        self.most_running = 0

    def expire(self, horizon: float) -> None:
        """Forget what was admitted at or before ``horizon``, running calls excepted."""
        while self.requests and self.requests[0] <= horizon:
            self.requests.popleft()
        running = []
        while self.charges and self.charges[0].admitted_at <= horizon:
            charge = self.charges.popleft()
            if charge.settled:
                self.tokens -= charge.tokens
            else:
                running.append(charge)
        self.charges.extendleft(reversed(running))

    def admit(self, quota: Quota, tokens: int, now: float) -> Charge:
        if quota.tpm is not None and self.tokens + tokens > quota.tpm:
            raise AwsError("ThrottlingException", TOO_MANY_TOKENS)
        if quota.rpm is not None and len(self.requests) >= quota.rpm:
            raise AwsError("ThrottlingException", TOO_MANY_REQUESTS)
        if quota.concurrent is not None and self.running >= quota.concurrent:
            raise AwsError("ThrottlingException", TOO_MANY_REQUESTS)
        charge = Charge(self, now, tokens)
        self.requests.append(now)
        self.charges.append(charge)
        self.tokens += tokens
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        return charge


class Quotas:
    """All limits and their usage."""

    def __init__(self, quotas: Iterable[Quota], window: float) -> None:
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self.configure(quotas, window)

    def configure(self, quotas: Iterable[Quota], window: float) -> None:
        """Change the limits; usage stays."""
        self._quotas = list(quotas)
        self._window = window
        self._chosen: dict[tuple[str, str, str], Quota | None] = {}

    def reset(self) -> None:
        self._buckets.clear()

    def admit(self, key: tuple[str, str, str], tokens: int) -> Charge | None:
        """Debit one call of ``tokens``, or raise ThrottlingException.  None: no limit."""
        if key not in self._chosen:
            self._chosen[key] = self._most_specific(key)
        quota = self._chosen[key]
        if quota is None:
            return None
        now = monotonic()
        bucket = self._buckets.setdefault(key, Bucket())
        bucket.expire(now - self._window)
        return bucket.admit(quota, tokens, now)

    def usage(self) -> list[dict[str, Any]]:
        report = []
        for key, bucket in sorted(self._buckets.items()):
            bucket.expire(monotonic() - self._window)
            account, region, model = key
            quota = self._most_specific(key) or Quota()
            report.append({"account": account, "region": region, "model": model,
                           "rpm": quota.rpm, "tpm": quota.tpm, "concurrent": quota.concurrent,
                           "requests": len(bucket.requests), "tokens": bucket.tokens,
                           "running": bucket.running, "most_running": bucket.most_running})
        return report

    def _most_specific(self, key: tuple[str, str, str]) -> Quota | None:
        """The matching limit with the most exact names; the later one on a tie."""
        chosen, best = None, -1
        for quota in self._quotas:
            names = (quota.account, quota.region, quota.model)
            if all(name in ("*", value) for name, value in zip(names, key, strict=True)):
                exact = sum(name != "*" for name in names)
                if exact >= best:
                    chosen, best = quota, exact
        return chosen
