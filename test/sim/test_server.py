"""The control plane, HTTP framing, the process."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path

import config as configuration
from sim_client import KEY_2, KEY_3, NOVA, SESSION_KEY, Simulator, converse_body, sign
from sim_testcase import US_HAIKU, SimTest, read_answer, user


class ControlTest(SimTest):
    def test_health_and_unknown_route(self) -> None:
        self.assertEqual(self.sim.control("GET", "/health"),
                         {"status": "ok", "pid": self.sim.ready["pid"]})
        self.assertRaisesRegex(ValueError, "^404", self.sim.control, "GET", "/nothing")

    def test_config(self) -> None:
        self.sim.control("PATCH", "/config", {"models": {NOVA: {"latency_ms": 1}}, "seed": 5})
        config = self.sim.control("GET", "/config")
        self.assertEqual(config["models"][NOVA]["latency_ms"], 1)
        self.assertEqual(config["models"][NOVA]["context_window"], 300_000)
        self.sim.control("PUT", "/config", {"models": {NOVA: {}}})
        config = self.sim.control("GET", "/config")
        self.assertEqual((list(config["models"]), config["seed"]), ([NOVA], 1))
        for bad in ([], {"colour": 1}, {"models": {NOVA: {"latency": 1}}}, {"accounts": []},
                    {"quotas": [{"rpm": "many"}]}, {"spread": "random"}, {"profiles": {"us": []}},
                    {"models": {NOVA: {"reply": {"fixed": "a", "echo": True}}}},
                    {"models": {NOVA: {"latency_ms": "fast"}}}, {"regions": None}):
            with self.subTest(bad=bad), self.assertRaisesRegex(ValueError, "^400"):
                self.sim.control("PATCH", "/config", bad)
        self.assertEqual(self.sim.control("GET", "/config"), config)

    def test_reset_keeps_config(self) -> None:
        self.sim.fresh(quotas=[{"rpm": 1}])
        self.sim.converse()
        self.sim.fault({"kind": "hang"})
        self.sim.control("POST", "/reset")
        self.assertEqual(self.sim.log(), [])
        self.assertEqual(self.sim.control("GET", "/stats")["totals"]["requests"], 0)
        self.assertEqual([self.sim.converse().status for _ in range(2)], [200, 429])

    def test_log(self) -> None:
        body = {"messages": [user("hello")], "requestMetadata": {"tenant": "acme"}}
        first = self.sim.converse(US_HAIKU, body)
        self.sim.converse("no.such-model", key=KEY_3)
        entries = self.sim.log()
        self.assertEqual([entry["seq"] for entry in entries], [1, 2])
        entry = entries[0]
        self.assertEqual(entry["requestId"], first.headers["x-amzn-requestid"])
        self.assertEqual(entry["requestMetadata"], {"tenant": "acme"})
        self.assertEqual((entry["operation"], entry["modelId"], entry["status"], entry["error"],
                          entry["inputTokens"], entry["outputTokens"]),
                         ("Converse", US_HAIKU, 200, None, 2, 2))
        self.assertIn(entry["inferenceRegion"], ("us-east-1", "us-east-2", "us-west-2"))
        self.assertLess(abs(entry["time"] - time.time()), 60)
        self.assertEqual((entries[1]["account"], entries[1]["error"]),
                         ("333333333333", "ValidationException"))
        self.assertEqual(self.sim.log(since=1), entries[1:])

    def test_ledger(self) -> None:
        def call(number: int, attempt: str) -> None:
            try:
                self.sim.converse(unsigned={"amz-sdk-invocation-id": f"call-{number}",
                                            "amz-sdk-request": attempt})
            except (http.client.HTTPException, OSError):
                pass

        self.assertEqual(self.sim.ledger(since=9)["last"], 0)
        self.sim.fault({"kind": "Throttling"}, {"kind": "reset_before_headers"},
                       {"kind": "truncated_body"}, {"kind": "reset_after_headers"})
        for number, attempt in enumerate(("attempt=1", "attempt=2; max=4", "attempt=3",
                                          "attempt=x", "attempt=1")):
            call(number, attempt)
        self.sim.converse()
        ledger = self.sim.ledger()
        self.assertEqual(ledger["columns"], ["callId", "attempt", "account", "modelId", "status",
                                             "inputTokens", "outputTokens", "written"])
        self.assertEqual([row[:2] + row[4:] for row in ledger["rows"]],
                         [["call-0", 1, 429, 0, 0, True], ["call-1", 2, 0, 0, 0, False],
                          ["call-2", 3, 200, 2, 2, False], ["call-3", None, 200, 2, 2, False],
                          ["call-4", 1, 200, 2, 2, True], [None, None, 200, 2, 2, True]])
        self.assertEqual(ledger["totals"], {"requests": 6, "inputTokens": 8, "outputTokens": 8})
        self.assertEqual((ledger["in_flight"], ledger["last"]), (0, 6))
        self.assertEqual(self.sim.ledger(since=4)["rows"], ledger["rows"][4:])
        self.assertEqual(self.sim.ledger(since=6)["totals"]["requests"], 0)

    def test_ledger_of_departed_clients(self) -> None:
        """Who has left is billed, and nothing was written."""
        self.sim.fresh(defaults={"latency_ms": 200})
        self.sim.fault({"kind": "hang"}, model=NOVA)
        for _ in range(2):
            with self.connect() as sock:
                sock.sendall(self.request_bytes())
                while self.sim.ledger()["in_flight"] == 0:
                    time.sleep(0.005)
        while self.sim.ledger()["in_flight"] > 0:
            time.sleep(0.01)
        self.assertEqual([row[4:] for row in self.sim.ledger()["rows"]],
                         [[0, 0, 0, False], [200, 2, 2, False]])

    def test_ledger_is_cheap(self) -> None:
        with self.connect() as sock, sock.makefile("rb") as stream:
            for _ in range(20):
                sock.sendall(self.request_bytes() * 100)
                for _ in range(100):
                    read_answer(stream)
        self.assertEqual(self.sim.ledger()["totals"],
                         {"requests": 2000, "inputTokens": 4000, "outputTokens": 4000})
        self.assertEqual(len(self.sim.ledger(since=1990)["rows"]), 10)

    def test_stats(self) -> None:
        self.sim.converse()
        self.sim.converse(key=KEY_2)
        self.sim.converse(body={})
        stats = self.sim.control("GET", "/stats")
        self.assertEqual(stats["totals"], {"requests": 3, "ok": 2, "throttled": 0, "errors": 1,
                                           "disconnected": 0, "in_flight": 0, "max_in_flight": 1})
        self.assertEqual([(row["account"], row["ok"], row["errors"]) for row in stats["by_key"]],
                         [("111111111111", 1, 1), ("222222222222", 1, 0)])
        self.assertGreaterEqual(stats["connections"]["opened"], 3)

    def test_requests_are_redacted(self) -> None:
        self.sim.converse(key=SESSION_KEY)
        self.sim.converse(body="second")
        first, second = self.sim.control("GET", "/requests?n=2")["requests"]
        self.assertEqual(second["body"], converse_body("second").decode())
        self.assertEqual(second["path"], "/model/amazon.nova-lite-v1%3A0/converse")
        self.assertEqual(second["headers"]["content-type"], "application/json")
        self.assertRegex(second["headers"]["authorization"],
                         r"^AWS4-HMAC-SHA256 Credential=AKIA.*Signature=REDACTED$")
        self.assertEqual(first["headers"]["x-amz-security-token"], "REDACTED")
        self.assertEqual(len(self.sim.control("GET", "/requests?n=1")["requests"]), 1)

    def test_few_requests_are_kept(self) -> None:
        self.sim.fresh(requests_limit=3)
        for number in range(5):
            self.sim.converse(body=f"number {number}")
        kept = self.sim.control("GET", "/requests?n=10")["requests"]
        self.assertEqual([json.loads(item["body"])["messages"][0]["content"][0]["text"]
                          for item in kept], ["number 2", "number 3", "number 4"])

    def test_close_idle_connections(self) -> None:
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(self.request_bytes())
            self.assertEqual(read_answer(stream).status, 200)
            self.assertGreaterEqual(self.sim.control("DELETE", "/connections")["closed"], 1)
            self.assertEqual(stream.read(), b"")


class HttpTest(SimTest):
    def test_keep_alive_and_pipelining(self) -> None:
        opened = self.sim.control("GET", "/stats")["connections"]["opened"]
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(b"".join(self.request_bytes(prompt=f"p{number}") for number in range(50)))
            self.assertEqual([read_answer(stream).text for _ in range(50)],
                             [f"p{number}" for number in range(50)])
        self.assertEqual(self.sim.control("GET", "/stats")["connections"]["opened"], opened + 1)

    def test_pipelining_behind_a_slow_call(self) -> None:
        self.sim.fresh(defaults={"latency_ms": 20})
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(b"".join(self.request_bytes(prompt="x" * 20_000) for _ in range(20)))
            self.assertEqual([read_answer(stream).status for _ in range(20)], [200] * 20)

    def test_byte_by_byte(self) -> None:
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in self.request_bytes():
                sock.sendall(bytes([byte]))
            self.assertEqual(read_answer(stream).text, "hello")

    def test_expect_continue(self) -> None:
        head, _, body = self.request_bytes().partition(b"\r\n\r\n")
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(stream.readline(), b"HTTP/1.1 100 Continue\r\n")
            stream.readline()
            sock.sendall(body)
            self.assertEqual(read_answer(stream).text, "hello")

    def test_connection_close(self) -> None:
        request = self.request_bytes().replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(request)
            self.assertEqual(read_answer(stream).headers["connection"], "close")
            self.assertEqual(stream.read(), b"")

    def test_bad_requests(self) -> None:
        for raw, status in ((b"nonsense\r\n\r\n", 400), (b"GET / HTTP/3\r\n\r\n", 505),
                            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
                            (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
                            (b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
                            (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
                            (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000, 431)):
            with self.subTest(raw=raw[:40]), self.connect() as sock, sock.makefile("rb") as stream:
                sock.sendall(raw)
                self.assertEqual(read_answer(stream).status, status)

    def test_large_request(self) -> None:
        self.sim.control("PATCH", "/config", {"models": {NOVA: {"context_window": 10 ** 9}}})
        self.assertEqual(len(self.sim.converse(body="y" * 10_000_000).text), 400)

    def test_thousand_concurrent_connections(self) -> None:
        self.sim.fresh(defaults={"latency_ms": 4000})

        async def call(number: int) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.sim.port)
            writer.write(self.request_bytes(US_HAIKU, f"number {number}"))
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            return int(head.split()[1])

        async def all_calls() -> list[int]:
            return await asyncio.gather(*(call(number) for number in range(1000)))

        self.assertEqual(Counter(asyncio.run(all_calls())), {200: 1000})
        totals = self.sim.control("GET", "/stats")["totals"]
        self.assertEqual((totals["ok"], totals["max_in_flight"], totals["in_flight"]),
                         (1000, 1000, 0))


class ProcessTest(unittest.TestCase):
    def test_signals_and_ready_file(self) -> None:
        other = Simulator("--port", "0", "--control-port", "0")
        self.assertEqual(set(other.ready), {"pid", "port", "control_port", "tls_port"})
        self.assertIsNone(other.ready["tls_port"])
        self.assertEqual(other.stop(), 0)

    def test_max_seconds(self) -> None:
        program = Path(__file__).with_name("bedrock_sim.py")
        process = subprocess.run([sys.executable, str(program), "--max-seconds", "0.2"],
                                 stdout=subprocess.PIPE, timeout=10, check=True)
        self.assertTrue(process.stdout.startswith(b"bedrock_sim ready {"))

    def test_interrupt(self) -> None:
        program = Path(__file__).with_name("bedrock_sim.py")
        with subprocess.Popen([sys.executable, str(program), "--max-seconds", "20"],
                              stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(10), 0)

    def test_config_file(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "config.json"
            path.write_text(json.dumps({"seed": 42}), encoding="utf-8")
            with Simulator("--config", str(path)) as other:
                self.assertEqual(other.control("GET", "/config")["seed"], 42)
            path.write_text('{"colour": 1}', encoding="utf-8")
            program = Path(__file__).with_name("bedrock_sim.py")
            failed = subprocess.run([sys.executable, str(program), "--config", str(path)],
                                    stderr=subprocess.PIPE, timeout=10, check=False)
            self.assertEqual(failed.returncode, 2)
            self.assertIn(b"unknown key in configuration: colour", failed.stderr)

    @unittest.skipUnless(shutil.which("openssl"), "needs the openssl command for a certificate")
    def test_tls(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            cert, key = f"{directory}/cert.pem", f"{directory}/key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
                            "2", "-subj", "/CN=localhost", "-addext",
                            "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                           check=True, stderr=subprocess.DEVNULL)
            with Simulator("--tls-port", "0", "--tls-cert", cert, "--tls-key", key) as other:
                port = other.ready["tls_port"]
                body = converse_body("over TLS")
                path = "/model/amazon.nova-lite-v1%3A0/converse"
                context = ssl.create_default_context(cafile=cert)
                connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
                connection.request("POST", path, body, sign(port, path, body))
                answer = connection.getresponse()
                self.assertIn(b"over TLS", answer.read())
                other.fault({"kind": "reset_before_headers"})
                connection.request("POST", path, body, sign(port, path, body))
                self.assertRaises(ConnectionError, connection.getresponse)
                connection.close()


class DefaultConfigTest(unittest.TestCase):
    def test_it_is_complete(self) -> None:
        config = configuration.load({})
        self.assertEqual({item.account for item in config.credentials.values()},
                         {"111111111111", "222222222222", "333333333333"})
        for weights in config.profiles.values():
            self.assertLessEqual(set(weights), config.regions)
        for target in config.application_profiles.values():
            self.assertTrue(target in config.models or target.partition(".")[2] in config.models)
