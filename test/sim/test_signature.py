"""Who may call: signatures, keys, tokens, clocks."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import sigv4
from aws_errors import AwsError
from config import Credential
from http_server import Request
from sim_client import (EXPIRED_KEY, KEY_1, KEY_2, KEY_3, NOVA, SESSION_KEY, Answer, Key,
                        converse_body, exchange, sign)
from sim_testcase import US_HAIKU, SimTest


class SignatureTest(SimTest):
    def post(self, headers: dict[str, str], body: bytes, model: str = NOVA) -> Answer:
        path = f"/model/{quote(model, safe='')}/converse"
        return exchange(self.sim.port, "POST", path, headers, body)

    def signed(self, **options: Any) -> tuple[dict[str, str], bytes]:
        body = converse_body("x")
        return sign(self.sim.port, f"/model/{quote(NOVA, safe='')}/converse", body,
                    **options), body

    def test_accounts_and_tokens(self) -> None:
        for key in (KEY_1, KEY_2, KEY_3, SESSION_KEY):
            self.assertEqual(self.sim.converse(key=key).status, 200)
        self.assertEqual([entry["account"] for entry in self.sim.log()],
                         ["111111111111", "222222222222", "333333333333", "111111111111"])

    def test_refusals(self) -> None:
        invalid, client = "InvalidSignatureException", "UnrecognizedClientException"
        now = time.time()
        for options, name, text in (
                ({"key": Key(KEY_1.access_key, "wrong")}, invalid, "signature we calculated"),
                ({"key": Key("AKIANOBODY", "x")}, client, "is invalid"),
                ({"key": SESSION_KEY._replace(token="other")}, client, "is invalid"),
                ({"key": SESSION_KEY._replace(token=None)}, client, "is invalid"),
                ({"key": KEY_1._replace(token="surplus")}, client, "is invalid"),
                ({"key": EXPIRED_KEY}, "ExpiredTokenException", "is expired"),
                ({"service": "bedrock-runtime"}, invalid, "correct service: 'bedrock'"),
                ({"region": "mars-north-1"}, invalid, "valid region"),
                ({"at": now - 310}, invalid, "Signature expired"),
                ({"at": now + 310}, invalid, "Signature not yet current")):
            with self.subTest(options=options):
                self.assert_error(self.post(*self.signed(**options)), 403, name, text)
        self.assertEqual(self.post(*self.signed(at=now - 290)).status, 200)

    def test_tampering(self) -> None:
        headers, body = self.signed()
        invalid = "InvalidSignatureException"
        self.assert_error(self.post(headers, body + b" "), 403, invalid)
        self.assert_error(self.post(headers, body, "amazon.nova-micro-v1:0"), 403, invalid)
        self.assert_error(self.post(headers | {"content-type": "text/plain"}, body), 403, invalid)
        self.assert_error(self.post(headers | {"x-amz-extra": "1"}, body), 403, invalid,
                          "not signed: x-amz-extra")
        self.assert_error(self.post(headers | {"x-amz-date": "19990101T000000Z"}, body), 403,
                          invalid, "Date in Credential scope")

    def test_wire_path_is_encoded_once_more(self) -> None:
        """A signature over the path as sent, not encoded again, is wrong."""
        path = f"/model/{quote(US_HAIKU, safe='')}/converse"
        body = converse_body("x")
        once = sign(self.sim.port, path.replace("%3A", ":"), body)
        self.assert_error(exchange(self.sim.port, "POST", path, once, body), 403,
                          "InvalidSignatureException", "v1%253A0/converse")

    def test_malformed_authorization(self) -> None:
        headers, body = self.signed()
        del headers["authorization"]
        self.assert_error(self.post(headers, body), 403, "MissingAuthenticationTokenException")
        for value, text in (("Basic abc", "AWS4-HMAC-SHA256"),
                            ("AWS4-HMAC-SHA256 Credential=a/b/c", "'Signature' parameter"),
                            ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0",
                             "5 slash-delimited")):
            self.assert_error(self.post(headers | {"authorization": value}, body), 400,
                              "IncompleteSignatureException", text)
        headers, body = self.signed()
        del headers["x-amz-date"]
        self.assert_error(self.post(headers, body), 400, "IncompleteSignatureException",
                          "X-Amz-Date")

    def test_verify_off(self) -> None:
        self.sim.control("PATCH", "/config", {"verify": False})
        self.assertEqual(self.post({}, converse_body("x")).status, 200)
        self.assertEqual(self.sim.converse(key=KEY_2._replace(secret_key="wrong")).status, 200)
        self.assertEqual([entry["account"] for entry in self.sim.log()],
                         ["111111111111", "222222222222"])

    def test_clock_offset(self) -> None:
        self.sim.control("PATCH", "/config", {"clock_offset_s": 3600})
        self.assert_error(self.sim.converse(), 403, "InvalidSignatureException", "expired")
        self.assertEqual(self.sim.converse(at=time.time() + 3600).status, 200)

    def test_published_vectors(self) -> None:
        """Known requests with known signatures, all at 20150830T123600Z."""
        body = b'{"messages":[{"role":"user","content":[{"text":"Hello"}]}]}'
        now = sigv4.parse_time("20150830T123600Z")
        arn = ("arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3A"
               "application-inference-profile%2Fabc123def456")
        for region, path, extra, signature in (
                ("us-east-1", "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", {},
                 "19f9ff5f31b96d4983cc87f7191e49e8c39475e434ea6b9d581028226bdc060c"),
                ("eu-west-1", f"/model/{arn}/converse-stream",
                 {"accept": "application/vnd.amazon.eventstream",
                  "x-amz-security-token": "EXAMPLETOKEN//=="},
                 "34fac59d56487f25c5098f288f14423534944dd3acc9288da33d17d298406f48"),
                ("us-east-1", "/model/global.anthropic.claude-sonnet-4-6/converse", {},
                 "846f244817edf41bb71ede6f4d5e386005410b5338376b0f2e5c989235e11f11")):
            headers = {"content-type": "application/json", "x-amz-date": "20150830T123600Z",
                       "host": f"bedrock-runtime.{region}.amazonaws.com"} | extra
            request = Request("\r\n".join([f"POST {path} HTTP/1.1",
                                           *(f"{name}: {value}" for name, value in
                                             headers.items())]))
            request.body = body
            claim = sigv4.Claim("AKIDEXAMPLE", "20150830", region, "bedrock", "aws4_request",
                                ";".join(sorted(headers)), signature)
            credential = Credential("1", "AKIDEXAMPLE",
                                    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                                    extra.get("x-amz-security-token"))
            credentials = {"AKIDEXAMPLE": credential}
            with self.subTest(path=path):
                sigv4.verify(claim, request, credentials, {region}, now)
                with self.assertRaises(AwsError):
                    sigv4.verify(claim._replace(signature="0" * 64), request, credentials,
                                 {region}, now)

    def test_canonical_forms(self) -> None:
        self.assertEqual(sigv4.canonical_path("/a//b/../c/"), "/a/c/")
        self.assertEqual(sigv4.canonical_path(""), "/")
        self.assertEqual(sigv4.canonical_query("b=2&a=x%2Fy&a=%41&flag"),
                         "a=A&a=x%2Fy&b=2&flag=")
