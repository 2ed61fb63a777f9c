"""What the simulator's own test cases share.

Owns: one simulator per test class, brought back to the built-in configuration
before each test, and raw sockets to it.
"""

from __future__ import annotations

import socket
import unittest
from typing import Any, BinaryIO
from urllib.parse import quote

from sim_client import HAIKU, KEY_1, NOVA, Answer, Key, Simulator, converse_body, sign

US_HAIKU = "us." + HAIKU
APPLICATION_PROFILE = ("arn:aws:bedrock:us-east-1:111111111111:"
                       "application-inference-profile/simprofile01")


class SimTest(unittest.TestCase):
    """A clean simulator per test."""

    sim: Simulator

    @classmethod
    def setUpClass(cls) -> None:
        cls.sim = Simulator()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.sim.stop()

    def setUp(self) -> None:
        self.sim.fresh()

    def assert_error(self, answer: Answer, status: int, name: str, text: str = "") -> None:
        self.assertEqual((answer.status, answer.error), (status, name), answer.body)
        self.assertIn(text, answer.json["message"])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.sim.port), timeout=5)

    def request_bytes(self, model: str = NOVA, prompt: Any = "hello", key: Key = KEY_1,
                      region: str = "us-east-1") -> bytes:
        """A whole signed request as it goes over a socket."""
        path = f"/model/{quote(model, safe='')}/converse"
        body = converse_body(prompt)
        headers = sign(self.sim.port, path, body, key, region)
        headers["content-length"] = str(len(body))
        lines = [f"POST {path} HTTP/1.1",
                 *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text}]}


def read_answer(stream: BinaryIO) -> Answer:
    """One answer from a socket file; a shorter body than declared comes as it is."""
    status = int(stream.readline().split()[1])
    headers: dict[str, str] = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return Answer(status, headers, stream.read(int(headers["content-length"])))
