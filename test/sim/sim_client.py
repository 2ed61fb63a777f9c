"""What the tests of the simulator share: start one, talk to it, sign requests.

Owns: a simulator process per ``Simulator`` (bounded by --max-seconds, so a
test that dies leaves nothing behind for long), and a SigV4 signer for tests
that cares about nothing but the happy path.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

PROGRAM = Path(__file__).with_name("bedrock_sim.py")
MAX_SECONDS = 120
START_SECONDS = 10

HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"


class Key(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None = None


KEY_1 = Key("AKIASIMULATOR0000001", "simulator-secret-1")
KEY_2 = Key("AKIASIMULATOR0000002", "simulator-secret-2")
KEY_3 = Key("AKIASIMULATOR0000003", "simulator-secret-3")
SESSION_KEY = Key("ASIASIMULATOR0000001", "simulator-secret-session", "simulator-session-token//==")
EXPIRED_KEY = Key("ASIASIMULATOR0000009", "simulator-secret-expired",
                  "simulator-expired-token//==")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.headers.get("x-amzn-errortype", "").partition(":")[0]

    @property
    def text(self) -> str:
        return self.json["output"]["message"]["content"][0]["text"]


class Simulator:
    """A running simulator; use as a context manager or call ``stop``."""

    def __init__(self, *arguments: str) -> None:
        self._directory = tempfile.TemporaryDirectory()
        ready = Path(self._directory.name) / "ready.json"
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "--ready-file", str(ready),
             "--max-seconds", str(MAX_SECONDS), *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("the simulator did not start")
            time.sleep(0.01)
        self.ready = json.loads(ready.read_text(encoding="utf-8"))
        self.port: int = self.ready["port"]
        self.control_port: int = self.ready["control_port"]

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self._process.terminate()
        code = self._process.wait(START_SECONDS)
        self._directory.cleanup()
        return code

    def control(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = exchange(self.control_port, method, path, {},
                          b"" if body is None else json.dumps(body).encode())
        if answer.status != 200:
            raise ValueError(f"{answer.status}: {answer.json['error']}")
        return answer.json

    def fresh(self, **sections: Any) -> None:
        """The built-in configuration with some sections replaced, and a clean slate."""
        self.control("PUT", "/config", sections)
        self.control("POST", "/reset")

    def fault(self, *faults: dict[str, Any], **match: str) -> None:
        self.control("POST", "/faults", {"match": match, "faults": list(faults)})

    def converse(self, model: str = NOVA, body: Any = "hello", key: Key = KEY_1,
                 region: str = "us-east-1", **options: Any) -> Answer:
        """One signed call; ``body`` is a prompt, a request object or raw bytes,
        ``unsigned`` are further headers."""
        path = f"/model/{quote(model, safe='')}/converse"
        payload = converse_body(body)
        unsigned = options.pop("unsigned", {})
        headers = sign(self.port, path, payload, key, region, **options) | unsigned
        return exchange(self.port, "POST", path, headers, payload)

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        return self.control("GET", f"/log?since={since}")["entries"]

    def ledger(self, since: int = 0) -> dict[str, Any]:
        return self.control("GET", f"/ledger?since={since}")


def converse_body(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        body = {"messages": [{"role": "user", "content": [{"text": body}]}],
                "inferenceConfig": {"maxTokens": 100}}
    return json.dumps(body).encode()


def exchange(port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()},
                      answer.read())
    finally:
        connection.close()


def sign(port: int, path: str, body: bytes, key: Key = KEY_1, region: str = "us-east-1", *,
         service: str = "bedrock", at: float | None = None) -> dict[str, str]:
    """The headers of a signed POST to the simulator."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() if at is None else at))
    headers = {"content-type": "application/json", "host": f"127.0.0.1:{port}",
               "x-amz-date": stamp}
    if key.token:
        headers["x-amz-security-token"] = key.token
    names = ";".join(sorted(headers))
    canonical = "\n".join(["POST", quote(path, safe="/-_.~"), "",
                           *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names,
                           hashlib.sha256(body).hexdigest()])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope,
                         hashlib.sha256(canonical.encode()).hexdigest()])
    secret = ("AWS4" + key.secret_key).encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope}, "
                                f"SignedHeaders={names}, Signature={signature}")
    return headers
