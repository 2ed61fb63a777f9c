"""Every scripted fault, and which request gets it."""

from __future__ import annotations

import http.client
import time
from typing import Any

from aws_errors import ERRORS
from sim_client import HAIKU, KEY_2, NOVA, Answer
from sim_testcase import US_HAIKU, SimTest, read_answer


class FaultTest(SimTest):
    def test_every_modelled_error(self) -> None:
        for name, (status, origin, message) in ERRORS.items():
            with self.subTest(name=name):
                self.sim.fault({"kind": name.removesuffix("Exception")})
                answer = self.sim.converse()
                self.assert_error(answer, status, name, message)
                self.assertEqual(answer.headers["x-amzn-errortype"], f"{name}:{origin}")
                self.assertIn("x-amzn-requestid", answer.headers)
                self.assertNotIn("retry-after", answer.headers)
        self.assertEqual(self.sim.converse().status, 200)

    def test_variations(self) -> None:
        def fault(**options: Any) -> Answer:
            self.sim.fault({"kind": "ModelError"} | options)
            return self.sim.converse()

        answer = fault(originalStatusCode=500, resourceName="model", message="boom")
        self.assertEqual(answer.json, {"message": "boom", "originalStatusCode": 500,
                                       "resourceName": "model"})
        self.assertEqual(fault(headers={"Retry-After": "7"}).headers["retry-after"], "7")
        self.assertNotIn("x-amzn-errortype", fault(error_type_header=False).headers)
        self.assertEqual(fault(error_type_header="ns#Odd:x").headers["x-amzn-errortype"],
                         "ns#Odd:x")
        self.assertIn("Message", fault(message_key="Message").json)
        self.assertEqual(fault(type_in_body=True).json["__type"], "ModelErrorException")
        self.assertEqual(fault(body="plain").body, b"plain")
        self.assertEqual(fault(body="").body, b"")
        self.assertEqual(fault(status=599).status, 599)
        started = time.monotonic()
        self.assertEqual(fault(delay_ms=100).status, 424)
        self.assertGreaterEqual(time.monotonic() - started, 0.1)

    def test_order_count_and_match(self) -> None:
        self.sim.fault({"kind": "Throttling", "times": 2}, {"kind": "InternalServer", "count": 1},
                        account="222222222222", model=HAIKU)
        self.sim.fault({"kind": "ServiceUnavailable", "times": -1}, region="eu-west-1")
        self.assertEqual(self.sim.converse(US_HAIKU).status, 200)
        self.assertEqual(self.sim.converse(NOVA, key=KEY_2).status, 200)
        self.assertEqual([self.sim.converse(US_HAIKU, key=KEY_2).status for _ in range(4)],
                         [429, 429, 500, 200])
        self.assertEqual([self.sim.converse(region="eu-west-1").status for _ in range(3)],
                         [503] * 3)
        self.assertEqual(self.sim.control("GET", "/faults")["rules"], [
            {"match": {"region": "eu-west-1"},
             "faults": [{"kind": "ServiceUnavailableException", "times": -1}]}])
        self.sim.control("DELETE", "/faults")
        self.assertEqual(self.sim.converse(region="eu-west-1").status, 200)

    def test_faults_cost_no_quota_unless_the_model_ran(self) -> None:
        self.sim.fresh(quotas=[{"rpm": 2}])
        self.sim.fault({"kind": "InternalServer", "times": 5}, {"kind": "empty_body"})
        self.assertEqual([self.sim.converse().status for _ in range(8)],
                         [500] * 5 + [200, 200, 429])

    def test_scripted_replies(self) -> None:
        self.sim.fault({"kind": "reply", "reply": {"fixed": "no", "stop_reason":
                                                    "guardrail_intervened"}},
                        {"kind": "reply", "reply": {"fixed": "yes"}, "usage": {"inputTokens": 99}})
        first, second, third = (self.sim.converse().json for _ in range(3))
        self.assertEqual(first["stopReason"], "guardrail_intervened")
        self.assertEqual(second["usage"]["inputTokens"], 99)
        self.assertEqual(third["output"]["message"]["content"][0]["text"], "hello")

    def test_odd_bodies(self) -> None:
        def fault(kind: str, **options: Any) -> Answer:
            self.sim.fault({"kind": kind} | options)
            return self.sim.converse()

        self.assertEqual(fault("json", body={"any": [1]}).json, {"any": [1]})
        self.assertEqual(fault("empty_body").body, b"")
        self.assertEqual(fault("empty_body", status=503).status, 503)
        self.assertRaises(ValueError, lambda: fault("invalid_json").json)
        self.assertGreater(len(fault("huge_body").body), 20_000_000)
        self.assertLess(len(fault("huge_body", bytes=1000).body), 2000)
        answer = fault("nul_escape")
        self.assertIn(rb"\u0000", answer.body)
        self.assertEqual(answer.text, "before\0after")
        self.assertIn(rb"\ud800", fault("lone_surrogate").body)
        self.assertIn(b"[" * 10_000, fault("deep_nesting").body)
        self.assertIn(b"[" * 10 + b"]", fault("deep_nesting", depth=10).body)
        page = fault("html_error_page", status=502)
        self.assertEqual((page.status, page.headers["content-type"]), (502, "text/html"))
        self.assertIn(b"502 Bad Gateway", page.body)

    def test_resets(self) -> None:
        self.sim.fault({"kind": "reset_before_headers"}, {"kind": "reset_after_headers"})
        with self.connect() as sock:
            sock.sendall(self.request_bytes())
            self.assertRaises(ConnectionResetError, sock.recv, 1000)
        with self.connect() as sock:
            sock.sendall(self.request_bytes())
            received = b""
            with self.assertRaises(ConnectionResetError):
                while chunk := sock.recv(100_000):
                    received += chunk
            self.assertRegex(received, rb'(?s)200 OK.*\r\n\r\n\{"output"')
        self.assertEqual([entry["fault"] for entry in self.sim.log()],
                         ["reset_before_headers", "reset_after_headers"])

    def test_hangs(self) -> None:
        self.sim.fault({"kind": "hang"}, {"kind": "hang_after_headers"})
        for expected in (b"", b"200 OK"):
            with self.connect() as sock:
                sock.sendall(self.request_bytes())
                if expected:
                    head = sock.recv(100_000)
                    self.assertIn(expected, head)
                    self.assertTrue(head.endswith(b"\r\n\r\n"))
                sock.settimeout(0.3)
                self.assertRaises(TimeoutError, sock.recv, 1000)
                self.assertEqual(self.sim.control("GET", "/stats")["totals"]["in_flight"], 1)
        entries = self.wait_for_log(2)
        self.assertEqual([(entry["status"], entry["delivered"]) for entry in entries],
                         [(0, False), (200, False)])
        totals = self.sim.control("GET", "/stats")["totals"]
        self.assertEqual((totals["in_flight"], totals["disconnected"]), (0, 2))

    def wait_for_log(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 5
        while len(self.sim.log()) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.sim.log()

    def test_client_that_leaves(self) -> None:
        """The call runs to its end and is debited, as at AWS."""
        self.sim.fresh(quotas=[{"rpm": 10}], defaults={"latency_ms": 300})
        with self.connect() as sock:
            sock.sendall(self.request_bytes())
            time.sleep(0.1)
        entry = self.wait_for_log(1)[0]
        self.assertEqual((entry["status"], entry["delivered"]), (200, False))
        stats = self.sim.control("GET", "/stats")
        self.assertEqual((stats["totals"]["ok"], stats["totals"]["disconnected"]), (1, 1))
        self.assertEqual(stats["quotas"][0]["requests"], 1)

    def test_slow_drip(self) -> None:
        self.sim.fault({"kind": "slow_drip", "bytes_per_sec": 600})
        started = time.monotonic()
        answer = self.sim.converse()
        self.assertEqual(answer.text, "hello")
        self.assertGreaterEqual(time.monotonic() - started, 0.2)

    def test_lengths(self) -> None:
        self.sim.fault({"kind": "truncated_body"})
        self.assertRaises(http.client.IncompleteRead, self.sim.converse)
        self.sim.fault({"kind": "wrong_content_length", "drop_bytes": 4})
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(self.request_bytes())
            short = read_answer(stream)
            self.assertRaises(ValueError, lambda: short.json)
            self.assertEqual(len(stream.read(4)), 4)
            sock.sendall(self.request_bytes())
            self.assertEqual(read_answer(stream).text, "hello")

    def test_close_idle(self) -> None:
        self.sim.fault({"kind": "close_idle"})
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(self.request_bytes())
            answer = read_answer(stream)
            self.assertEqual((answer.text, answer.headers["connection"]), ("hello", "keep-alive"))
            self.assertEqual(stream.read(), b"")

    def test_bad_rules(self) -> None:
        for rule in ({"faults": [{"kind": "nonsense"}]}, {"faults": []}, [],
                     {"faults": [{"kind": "hang", "times": 0}]},
                     {"faults": [{"kind": "hang", "tmies": 1}]},
                     {"match": {"acount": "1"}, "faults": [{"kind": "hang"}]}):
            with self.subTest(rule=rule), self.assertRaisesRegex(ValueError, "^400"):
                self.sim.control("POST", "/faults", rule)
