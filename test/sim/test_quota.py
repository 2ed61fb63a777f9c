"""Requests and tokens per minute."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from aws_errors import AwsError
from config import Quota
from quota import Quotas
from sim_client import HAIKU, KEY_2, NOVA
from sim_testcase import APPLICATION_PROFILE, US_HAIKU, SimTest, user


class QuotaTest(SimTest):
    def statuses(self, count: int, **call: Any) -> Counter[int]:
        return Counter(self.sim.converse(**call).status for _ in range(count))

    def test_rpm_is_exact(self) -> None:
        self.sim.fresh(quotas=[{"account": "*", "region": "*", "model": NOVA, "rpm": 3}])
        self.assertEqual(self.statuses(10), {200: 3, 429: 7})
        self.assertEqual(self.statuses(10, key=KEY_2), {200: 3, 429: 7})
        self.assertEqual(self.statuses(10, region="eu-west-1"), {200: 3, 429: 7})
        self.assertEqual(self.statuses(5, model="amazon.nova-micro-v1:0"), {200: 5})
        answer = self.sim.converse()
        self.assert_error(answer, 429, "ThrottlingException", "Too many requests, please wait")
        self.assertNotIn("retry-after", answer.headers)
        self.assertEqual(self.sim.control("GET", "/stats")["totals"]["throttled"], 22)

    def test_rpm_is_exact_under_concurrency(self) -> None:
        self.sim.fresh(quotas=[{"rpm": 25}], defaults={"latency_ms": 20})
        counts: Counter[int] = Counter()
        threads = [threading.Thread(target=lambda: counts.update(self.statuses(10)))
                   for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(counts, {200: 25, 429: 75})

    def test_concurrent(self) -> None:
        """Two at a time: the third is throttled, and there is room when one has ended."""
        self.sim.fresh(quotas=[{"concurrent": 2}], defaults={"latency_ms": 1000})
        running = [threading.Thread(target=self.sim.converse) for _ in range(2)]
        for thread in running:
            thread.start()
        while self.sim.control("GET", "/stats")["totals"]["in_flight"] < 2:
            time.sleep(0.01)
        self.assert_error(self.sim.converse(), 429, "ThrottlingException", "Too many requests")
        self.assertEqual(self.sim.control("GET", "/stats")["quotas"][0]["running"], 2)
        for thread in running:
            thread.join()
        self.assertEqual(self.sim.converse().status, 200)
        usage = self.sim.control("GET", "/stats")["quotas"][0]
        self.assertEqual((usage["running"], usage["most_running"]), (0, 2))

    def test_most_specific_quota_wins(self) -> None:
        self.sim.fresh(quotas=[
            {"account": "111111111111", "region": "us-east-1", "model": NOVA, "rpm": 2},
            {"account": "111111111111", "rpm": 5}, {"rpm": 0}])
        self.assertEqual(self.statuses(6), {200: 2, 429: 4})
        self.assertEqual(self.statuses(6, region="us-west-2"), {200: 5, 429: 1})
        self.assertEqual(self.statuses(2, key=KEY_2), {429: 2})

    def test_profile_has_its_own_quota(self) -> None:
        self.sim.fresh(quotas=[{"model": US_HAIKU, "rpm": 1}])
        self.assertEqual(self.statuses(2, model=APPLICATION_PROFILE), {200: 1, 429: 1})
        self.assertEqual(self.statuses(1, model=US_HAIKU), {429: 1})
        self.assertEqual(self.statuses(2, model="global." + HAIKU), {200: 2})

    def test_tokens_reserve_and_settle(self) -> None:
        """1 in + 100 reserved fit once into 150, although 1 + 5 x 2 are settled."""
        self.sim.fresh(quotas=[{"tpm": 150}])
        self.sim.control("PATCH", "/config", {"models": {HAIKU: {
            "latency_ms": 1000, "reply": {"fixed": "12345678"}}}})
        waiting = threading.Thread(target=self.sim.converse, args=(US_HAIKU, "x"))
        waiting.start()
        while self.sim.control("GET", "/stats")["totals"]["in_flight"] == 0:
            time.sleep(0.01)
        self.assert_error(self.sim.converse(US_HAIKU, "x"), 429, "ThrottlingException",
                          "Too many tokens, please wait before trying again.")
        waiting.join()
        usage = self.sim.control("GET", "/stats")["quotas"][0]
        self.assertEqual((usage["requests"], usage["tokens"]), (1, 11))
        self.assertEqual(self.sim.converse(US_HAIKU, "x").status, 200)
        self.assertEqual(self.sim.control("GET", "/stats")["quotas"][0]["tokens"], 22)

    def test_unset_max_tokens_reserves_the_maximum(self) -> None:
        self.sim.fresh(quotas=[{"tpm": 8000}])
        self.assertEqual(self.sim.converse(body={"messages": [user("x")]}).status, 429)
        self.assertEqual(self.sim.converse(body="x").status, 200)

    def test_refusal_costs_nothing(self) -> None:
        """A TPM refusal leaves the requests alone; invalid requests cost nothing either."""
        self.sim.fresh(quotas=[{"rpm": 2, "tpm": 1000}])
        big = {"messages": [user("x")], "inferenceConfig": {"maxTokens": 5000}}
        for _ in range(3):
            self.assertEqual(self.sim.converse(body=big).status, 429)
            self.assertEqual(self.sim.converse(body={}).status, 400)
        self.assertEqual(self.statuses(3), {200: 2, 429: 1})

    def test_window_slides(self) -> None:
        quotas = Quotas([Quota(rpm=2, tpm=100)], window=0.2)
        key = ("a", "r", "m")
        charges = [quotas.admit(key, 10) for _ in range(2)]
        self.assertRaises(AwsError, quotas.admit, key, 10)
        charges[0].settle(3)
        time.sleep(0.21)
        quotas.admit(key, 90)
        self.assertEqual(quotas.usage()[0]["tokens"], 100, "a running call keeps its reservation")
        self.assertRaises(AwsError, quotas.admit, key, 1)
        charges[1].settle(4)
        self.assertEqual(quotas.usage()[0]["tokens"], 90)
