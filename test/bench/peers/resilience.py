"""What the systems for comparison do when limits bind, call by call, against the simulator's own log.

A `Pattern` is a plan of limits and the calls that come at the same moment.  It is played by pgllm and by
LiteLLM under several settings; every round uses fresh names, so that no limit remembers the last one.
What counts is what the upstream saw (its log) and what the callers got.
"""
import http.client
import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field

import gateways
import harness
import processes
from harness import Session, at_once

WARM_UP = "peers.warm-up-v1:0"
LATENCY = {"latency_ms": 60, "latency_jitter_ms": 40}  # as in the demo
BEFORE_MINUTE_S = 3
AFTER_MINUTE_S = 1
LAST_SECOND = 40  # of a minute; LiteLLM counts by the minute of the clock
PATIENCE_S = 20   # of LiteLLM's clients


@dataclass(frozen=True)
class Model:
    """A deployment: the account that it is in, its limit per minute, and its tier."""
    account: int
    rpm: int
    tier: int = 0


@dataclass
class Pattern:
    """callers: name → (calls at once, rpm of the caller or None, models)."""
    key: str
    title: str
    expected: str
    callers: dict
    by_caller: bool = False   # what is counted: answers per caller, or requests per model
    rounds: int | None = None # if not all
    twice: bool = False       # the same calls again, on the other side of a full minute

    def name(self, caller, number):
        return f"{self.key}-{caller}-{number}"

    def model_id(self, caller, number, i):
        """One for each deployment, by which the log of the simulator tells them apart."""
        return f"peers.{self.name(caller, number)}-{i}-v1:0"

    def model_ids(self, number):
        """By caller."""
        return {caller: [self.model_id(caller, number, i) for i in range(len(models))]
                for caller, (_, _, models) in self.callers.items()}


@dataclass
class Outcome:
    counts: tuple             # as the expectation is written
    upstream: int             # requests that the upstream served
    served: list = field(default_factory=list)   # seconds of each caller with an answer
    refused: list = field(default_factory=list)  # and of each without


PRIMARY = Model(1, 3)
SECOND = Model(1, 3)
OVERFLOW = Model(2, 25, tier=1)
FLOOD_LIMIT = 10
FLOOD_CALLS = 50

PATTERNS = [
    Pattern("fallback", "3. fallback: primary 3 a minute, fallback 25; 10 calls", "3 + 7",
            {"chat": (10, None, (PRIMARY, OVERFLOW))}),
    Pattern("balance", "4. balance: two primaries 3 a minute each, fallback; 10 calls", "3 + 3 + 4",
            {"chat": (10, None, (PRIMARY, SECOND, OVERFLOW))}),
    Pattern("tenants", "5. tenants: A 3 a minute, B and C 10; 10 calls each", "3 + 10 + 10",
            {"a": (10, 3, (Model(1, 0),)), "b": (10, 10, (Model(2, 0),)), "c": (10, 10, (Model(3, 0),))},
            by_caller=True),
    Pattern("flood", f"over-admission: {FLOOD_LIMIT} a minute; {FLOOD_CALLS} calls", str(FLOOD_LIMIT),
            {"flood": (FLOOD_CALLS, None, (Model(1, FLOOD_LIMIT),))}),
    Pattern("edge", f"… twice within 5 s, around a full minute; {FLOOD_LIMIT} a minute; 2 × 20 calls",
            str(FLOOD_LIMIT), {"edge": (20, None, (Model(1, FLOOD_LIMIT),))}, rounds=1, twice=True),
]


# ---- the simulator ----

class Simulator(processes.Server):
    def __init__(self, rounds):
        self.data_port = processes.free_port()
        control = processes.free_port()
        super().__init__("simulator", [
            "/usr/bin/python3", gateways.HERE + "/../../sim/bedrock_sim.py", "--port",
            str(self.data_port), "--control-port", str(control)], control, "/health", {})
        models = {model: {} for pattern in PATTERNS for number in range(rounds)
                  for models in pattern.model_ids(number).values() for model in models}
        self.control("PATCH", "/config", {"defaults": LATENCY, "models": {**models, WARM_UP: {}}})

    def control(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         data=json.dumps(body).encode() if body else None)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)

    def last(self):
        return self.control("GET", "/log?since=0")["last"]

    def served_since(self, since):
        """The model of every request that was answered, once none is on its way."""
        deadline = time.monotonic() + 30
        while self.control("GET", "/stats")["totals"]["in_flight"] and time.monotonic() < deadline:
            time.sleep(0.02)
        return [entry["modelId"] for entry in self.control("GET", f"/log?since={since}")["entries"]
                if entry["status"] == 200]

    def url(self):
        return f"http://127.0.0.1:{self.data_port}"


def outcome(pattern, number, calls, served):
    """calls: (caller, answered?, seconds) of each; served: what the simulator's log says."""
    requests = {caller: [served.count(model) for model in models]
                for caller, models in pattern.model_ids(number).items()}
    if pattern.by_caller:
        counts = tuple(sum(1 for name, ok, _ in calls if name == caller and ok)
                       for caller in pattern.callers)
    else:
        counts = tuple(next(iter(requests.values())))
    return Outcome(counts, sum(map(sum, requests.values())), [s for _, ok, s in calls if ok],
                   [s for _, ok, s in calls if not ok])


# ---- pgllm ----

class Pgllm:
    title = "pgllm"

    def __init__(self, simulator):
        self.simulator = simulator
        with Session() as session:
            session.run("INSERT INTO llm_shard (shard, provider, region, endpoint, network, credential) "
                        f"SELECT 'sim' || i, 'bedrock', 'us-east-1', '{simulator.url()}', 'loopback', "
                        "'file:sim' || i FROM generate_series(1, 3) AS i ON CONFLICT DO NOTHING")

    def declare(self, session, pattern, number):
        for caller, (_, rpm, models) in pattern.callers.items():
            name = pattern.name(caller, number)
            for i, model in enumerate(models):
                target = f"{name}-{i}"
                session.run("INSERT INTO llm_target (target, shard, model, model_id, quota_domain, rpm) "
                            f"VALUES ('{target}', 'sim{model.account}', 'm', "
                            f"'{pattern.model_id(caller, number, i)}', '{target}', {model.rpm or 'NULL'})")
                session.run("INSERT INTO llm_route (route, tier, target) "
                            f"VALUES ('{name}', {model.tier}, '{target}')")
            session.run(f"INSERT INTO llm_tenant (tenant, route) VALUES ('{name}', '{name}')")
            session.run("INSERT INTO llm_quota (tenant, rpm, window_kind) "
                        f"VALUES ('{name}', {rpm or 1000000}, 'strict')")

    def play(self, pattern, number):
        with Session() as session:
            self.declare(session, pattern, number)
        since = self.simulator.last()
        calls = self.call_at_once(pattern, number)
        if pattern.twice:
            time.sleep(BEFORE_MINUTE_S + AFTER_MINUTE_S)
            calls += self.call_at_once(pattern, number)
        return outcome(pattern, number, calls, self.simulator.served_since(since))

    @staticmethod
    def call_at_once(pattern, number):
        callers = [caller for caller, (calls, _, _) in pattern.callers.items() for _ in range(calls)]

        def sql_of(i):
            name = pattern.name(callers[i], number)
            return ("SELECT coalesce((r.result).error, ''), extract(epoch FROM clock_timestamp() - r.began) "
                    f"FROM (SELECT clock_timestamp() AS began, llm_try_invoke('{name}', 'Say {i}') AS result "
                    "OFFSET 0) AS r")
        rows, _ = at_once(len(callers), sql_of, "SELECT count(*) FROM llm_explain("
                          f"'{pattern.name(callers[0], number)}', 'x')")
        return [(caller, row[0] == "", float(row[1])) for caller, row in zip(callers, rows)]


# ---- LiteLLM ----

HARD = {"routing_strategy": "simple-shuffle", "num_retries": 0,
        "optional_pre_call_checks": ["enforce_model_rate_limits"]}
LITELLM_SETTINGS = {
    "LiteLLM, hard limits": HARD,
    "LiteLLM, hard limits, 2 workers": {**HARD, "workers": 2},
    "LiteLLM, hard limits, 2 workers, Redis": {**HARD, "workers": 2, "redis": True},
    "LiteLLM, usage-based routing": {"routing_strategy": "usage-based-routing-v2",
                                     "num_retries": 0},
    "LiteLLM, as in AWS's sample": {"routing_strategy": "simple-shuffle",
                                    "enable_pre_call_checks": True, "allowed_fails": 2,
                                    "cooldown_time": 15},
}


def start_redis():
    port = processes.free_port()
    return processes.Server("redis", ["redis-server", "--bind", "127.0.0.1", "--port", str(port),
                                      "--save", "", "--appendonly", "no"], port, None, {})


def wait_for_second(second):
    """Of the minute of the clock."""
    time.sleep((second - time.time()) % 60)


class LiteLLM:
    """The proxy: one worker, as its counters belong to a process, unless the settings say more."""

    def __init__(self, title, settings, simulator, rounds):
        router = {key: value for key, value in settings.items() if key != "workers"}
        self.redis = None
        if router.pop("redis", False):
            self.redis = start_redis()
            router |= {"redis_host": "127.0.0.1", "redis_port": self.redis.port}
        self.title = title
        self.simulator = simulator
        deployments = [self.deployment("warm", Model(3, 0), WARM_UP)]
        fallbacks = []
        for pattern in PATTERNS:
            for number in range(rounds):
                for caller, (_, rpm, models) in pattern.callers.items():
                    name = pattern.name(caller, number)
                    for i, model in enumerate(models):
                        later = name + "-overflow" if model.tier else name
                        deployments.append(self.deployment(
                            later, model, pattern.model_id(caller, number, i), rpm))
                        if model.tier:
                            fallbacks.append({name: [later]})
        self.server = gateways.LiteLLM(
            "litellm-" + "".join(letter for letter in title[8:] if letter.isalpha()), deployments,
            {**router, "fallbacks": fallbacks}, workers=settings.get("workers", 1))
        self.ask_at_once(["warm"] * 10)

    def deployment(self, name, model, model_id, rpm=None):
        limit = rpm or model.rpm
        return gateways.deployment(
            name, self.simulator.url(), f"AKIASIMULATOR000000{model.account}",
            f"simulator-secret-{model.account}", model_id, **({"rpm": limit} if limit else {}))

    def ask(self, name, barrier, results):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        connection.connect()
        body = json.dumps({"model": name, "max_tokens": 64,
                           "messages": [{"role": "user", "content": "Say hello"}]})
        barrier.wait(30)
        began = time.perf_counter()
        try:
            connection.request("POST", "/v1/chat/completions", body,
                               {"content-type": "application/json", **self.server.headers()})
            answer = connection.getresponse()
            answer.read()
            ok = answer.status == 200
        except (OSError, http.client.HTTPException):
            ok = False
        results.append((name, ok, time.perf_counter() - began))
        connection.close()

    def ask_at_once(self, names):
        barrier = threading.Barrier(len(names))
        results = []
        threads = [threading.Thread(target=self.ask, args=(name, barrier, results))
                   for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def play(self, pattern, number):
        if pattern.twice:
            wait_for_second(60 - BEFORE_MINUTE_S)
        else:
            while time.time() % 60 > LAST_SECOND:
                time.sleep(0.5)
        since = self.simulator.last()
        names = [pattern.name(caller, number) for caller, (calls, _, _) in pattern.callers.items()
                 for _ in range(calls)]
        results = self.ask_at_once(names)
        if pattern.twice:
            wait_for_second(AFTER_MINUTE_S)
            results += self.ask_at_once(names)
        calls = [(name.split("-")[1], ok, seconds) for name, ok, seconds in results]
        return outcome(pattern, number, calls, self.simulator.served_since(since))

    def stop(self):
        self.server.stop()
        if self.redis:
            self.redis.stop()
