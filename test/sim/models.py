"""From the model id of a request to a model, and to the Region that serves it.

Owns: the grammar of model ids (foundation ids, ``us.``-like profile ids,
foundation-model, inference-profile and application-inference-profile ARNs),
who may call what from where, and the spread of a cross-Region profile.

The quota of a call belongs to the *target* id: the bare id, or the system
profile id, also when it was called through an ARN.
"""

from __future__ import annotations

import itertools
import random
import re
from typing import NamedTuple

from aws_errors import AwsError
from config import Config, Model

ARN = re.compile(r"arn:aws[a-z-]*:bedrock:([a-z0-9-]+):(\d{12})?:([a-z-]+)/(.+)")
INVALID_ID = "The provided model identifier is invalid."
NO_ON_DEMAND = ("Invocation of model ID {} with on-demand throughput isn't supported. Retry your "
                "request with the ID or ARN of an inference profile that contains this model.")
END_OF_LIFE = ("This model version has reached the end of its life. Please refer to the AWS "
               "documentation for more details.")


class Resolved(NamedTuple):
    """What a model id means for one caller."""

    model: Model
    target: str          # bare id or system profile id: the name quotas go by
    profile: str | None  # geography prefix, None for a call inside one Region


class Resolver:
    """Resolution under one configuration; remembers its successes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._known: dict[tuple[str, str, str], Resolved] = {}

    def resolve(self, model_id: str, account: str, region: str) -> Resolved:
        key = (model_id, account, region)
        resolved = self._known.get(key)
        if resolved is None:
            target = self._target_of(model_id, account, region)
            resolved = self._resolve_target(target, region)
            self._check_access(resolved, account, model_id)
            self._known[key] = resolved
        return resolved

    def _target_of(self, model_id: str, account: str, region: str) -> str:
        """The bare or profile id behind an ARN; any other id as it is."""
        if not model_id.startswith("arn:"):
            return model_id
        match = ARN.fullmatch(model_id)
        if match is None or match[1] != region:
            raise AwsError("ValidationException", INVALID_ID)
        owner, kind, rest = match[2], match[3], match[4]
        if kind == "foundation-model" and owner is None:
            return rest
        if owner != account:
            raise AwsError("AccessDeniedException")
        if kind == "inference-profile":
            return rest
        if kind != "application-inference-profile":
            raise AwsError("ValidationException", INVALID_ID)
        if model_id not in self.config.application_profiles:
            raise AwsError("ResourceNotFoundException",
                           f"Could not find inference profile {model_id}.")
        return self.config.application_profiles[model_id]

    def _resolve_target(self, target: str, region: str) -> Resolved:
        prefix, _, rest = target.partition(".")
        model = self.config.models.get(target)
        if model is not None:
            if model.regions is not None and region not in model.regions:
                raise AwsError("ValidationException", INVALID_ID)
            if model.profile_only:
                raise AwsError("ValidationException", NO_ON_DEMAND.format(target))
            return Resolved(model, target, None)
        model = self.config.models.get(rest)
        if (model is None or region not in self.config.profiles.get(prefix, ())
                or (model.profiles is not None and prefix not in model.profiles)):
            raise AwsError("ValidationException", INVALID_ID)
        return Resolved(model, target, prefix)

    def _check_access(self, resolved: Resolved, account: str, model_id: str) -> None:
        names = {model_id, resolved.target, resolved.model.model_id}
        if any((account, name) in self.config.denied_models for name in names):
            raise AwsError("AccessDeniedException")
        if resolved.model.retired:
            raise AwsError("ResourceNotFoundException", END_OF_LIFE)


class Spread:
    """Chooses the Region that serves a call to a cross-Region profile."""

    def __init__(self, config: Config) -> None:
        self._weighted = config.spread == "weighted"
        self._random = random.Random(config.seed)
        self._regions = {prefix: list(weights) for prefix, weights in config.profiles.items()}
        self._sums = {prefix: list(itertools.accumulate(weights.values()))
                      for prefix, weights in config.profiles.items()}
        self._turns = {prefix: itertools.cycle(regions)
                       for prefix, regions in self._regions.items()}

    def choose(self, profile: str | None, source: str) -> str:
        if profile is None:
            return source
        if self._weighted:
            return self._random.choices(self._regions[profile],
                                        cum_weights=self._sums[profile])[0]
        return next(self._turns[profile])
