#!/usr/bin/env python3
"""The official AWS SDK for Python against the simulator.

What botocore sends must be accepted, and what the simulator answers must be
what botocore expects of AWS.  Needs botocore: run test/sim/run-botocore-test,
which installs it into a throw-away environment.  Retries are off, so that
every answer is seen.
"""

from __future__ import annotations

import unittest
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.session

from sim_client import EXPIRED_KEY, HAIKU, KEY_1, KEY_2, NOVA, SESSION_KEY, Key
from sim_testcase import APPLICATION_PROFILE, US_HAIKU, SimTest

ONE_ATTEMPT = {"total_max_attempts": 1}
STANDARD = {"mode": "standard", "total_max_attempts": 3}


class BotocoreTest(SimTest):
    def client(self, key: Key = KEY_1, region: str = "us-east-1",
               retries: dict[str, Any] = ONE_ATTEMPT) -> Any:
        return botocore.session.get_session().create_client(
            "bedrock-runtime", region_name=region,
            config=botocore.config.Config(retries=retries, read_timeout=2),
            endpoint_url=f"http://127.0.0.1:{self.sim.port}",
            aws_access_key_id=key.access_key, aws_secret_access_key=key.secret_key,
            aws_session_token=key.token)

    def converse(self, model: str = NOVA, prompt: str = "hello", key: Key = KEY_1,
                 region: str = "us-east-1", **members: Any) -> dict[str, Any]:
        request = {"messages": [{"role": "user", "content": [{"text": prompt}]}],
                   "inferenceConfig": {"maxTokens": 50}} | members
        return self.client(key, region).converse(modelId=model, **request)

    def refused(self, status: int, code: str, text: str, **call: Any) -> Any:
        """The error of a call, as the SDK understood it."""
        with self.assertRaises(botocore.exceptions.ClientError) as caught:
            self.converse(**call)
        response = caught.exception.response
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], status)
        self.assertEqual(response["Error"]["Code"], code)
        self.assertIn(text, response["Error"]["Message"])
        return caught.exception

    def test_success_and_usage(self) -> None:
        answer = self.converse(prompt="hello there", system=[{"text": "Be brief."}])
        self.assertEqual(answer["output"]["message"]["content"], [{"text": "hello there"}])
        self.assertEqual(answer["stopReason"], "end_turn")
        self.assertEqual(answer["usage"], {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8})
        self.assertIn("latencyMs", answer["metrics"])
        self.assertEqual(answer["ResponseMetadata"]["RequestId"],
                         self.sim.log()[0]["requestId"])

    def test_every_request_member(self) -> None:
        tools = {"tools": [{"toolSpec": {"name": "f", "description": "d",
                                         "inputSchema": {"json": {"type": "object"}}}}],
                 "toolChoice": {"auto": {}}}
        content = [{"text": "look"},
                   {"image": {"format": "png", "source": {"bytes": b"png"}}},
                   {"document": {"name": "a doc", "format": "txt", "source": {"bytes": b"x"}}},
                   {"cachePoint": {"type": "default"}}]
        answer = self.converse(
            messages=[{"role": "user", "content": content}], toolConfig=tools,
            inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.9,
                             "stopSequences": ["END"]},
            additionalModelRequestFields={"top_k": 5},
            additionalModelResponseFieldPaths=["/x"],
            guardrailConfig={"guardrailIdentifier": "abc", "guardrailVersion": "1"},
            requestMetadata={"tenant": "acme"}, performanceConfig={"latency": "standard"})
        self.assertEqual(answer["output"]["message"]["content"], [{"text": "look"}])
        self.assertEqual(self.sim.log()[0]["requestMetadata"], {"tenant": "acme"})

    def test_model_ids_that_need_encoding(self) -> None:
        for model in (NOVA, US_HAIKU, APPLICATION_PROFILE):
            with self.subTest(model=model):
                self.assertEqual(self.converse(model)["stopReason"], "end_turn")
        self.assertEqual([entry["modelId"] for entry in self.sim.log()],
                         [NOVA, US_HAIKU, APPLICATION_PROFILE])

    def test_session_token(self) -> None:
        self.assertEqual(self.converse(key=SESSION_KEY)["stopReason"], "end_turn")

    def test_account_and_region(self) -> None:
        self.converse(key=KEY_2, region="eu-west-1")
        entry = self.sim.log()[0]
        self.assertEqual((entry["account"], entry["region"]), ("222222222222", "eu-west-1"))

    def test_throttling(self) -> None:
        self.sim.fresh(quotas=[{"rpm": 1}])
        self.converse()
        self.refused(429, "ThrottlingException", "Too many requests, please wait")
        self.sim.fresh(quotas=[{"tpm": 10}])
        error = self.refused(429, "ThrottlingException", "Too many tokens, please wait")
        self.assertEqual(type(error).__name__, "ThrottlingException")
        self.assertNotIn("retry-after", error.response["ResponseMetadata"]["HTTPHeaders"])

    def test_signature_errors(self) -> None:
        self.refused(403, "InvalidSignatureException", "signature we calculated",
                     key=Key(KEY_1.access_key, "wrong"))
        self.refused(403, "UnrecognizedClientException", "security token", key=Key("AKIAX", "x"))
        self.refused(403, "ExpiredTokenException", "expired", key=EXPIRED_KEY)

    def test_request_errors(self) -> None:
        self.refused(400, "ValidationException", "is blank", prompt=" ")
        self.refused(400, "ValidationException", "identifier is invalid", model="no.such-model")
        self.refused(400, "ValidationException", "on-demand throughput", model=HAIKU)
        self.refused(404, "ResourceNotFoundException", "end of its life",
                     model="anthropic.claude-v2:1")
        self.refused(404, "ResourceNotFoundException", "Could not find",
                     model=APPLICATION_PROFILE + "x")

    def test_scripted_errors(self) -> None:
        for kind, status in (("AccessDenied", 403), ("Validation", 400),
                             ("ResourceNotFound", 404), ("Throttling", 429),
                             ("ModelNotReady", 429), ("ModelTimeout", 408), ("ModelError", 424),
                             ("InternalServer", 500), ("ServiceUnavailable", 503)):
            with self.subTest(kind=kind):
                self.sim.fault({"kind": kind, "message": "scripted"})
                error = self.refused(status, f"{kind}Exception", "scripted")
                self.assertEqual(type(error).__name__, f"{kind}Exception")

    def test_error_members(self) -> None:
        self.sim.fault({"kind": "ModelError", "originalStatusCode": 500, "resourceName": "m"})
        error = self.refused(424, "ModelErrorException", "")
        self.assertEqual((error.response["originalStatusCode"], error.response["resourceName"]),
                         (500, "m"))
        self.sim.fault({"kind": "Throttling", "error_type_header": False, "type_in_body": True})
        self.refused(429, "ThrottlingException", "")

    def test_retries_of_the_sdk(self) -> None:
        """Left to itself, the SDK gets over two failures."""
        self.sim.fault({"kind": "ServiceUnavailable"}, {"kind": "reset_before_headers"})
        messages = [{"role": "user", "content": [{"text": "again"}]}]
        answer = self.client(retries=STANDARD).converse(modelId=NOVA, messages=messages)
        self.assertEqual(answer["ResponseMetadata"]["RetryAttempts"], 2)
        self.assertEqual([entry["status"] for entry in self.sim.log()], [503, 0, 200])

    def test_connection_faults(self) -> None:
        self.sim.fault({"kind": "hang"}, {"kind": "truncated_body"})
        self.assertRaises(botocore.exceptions.ReadTimeoutError, self.converse)
        # botocore takes a body that is cut off for an empty answer.
        self.assertNotIn("output", self.converse())

    def test_scripted_reply(self) -> None:
        tool = {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": [1, None]}}}
        self.sim.fault({"kind": "reply", "reply": {"content": [tool]}},
                        {"kind": "deep_nesting", "depth": 50})
        answer = self.converse()
        self.assertEqual((answer["output"]["message"]["content"], answer["stopReason"]),
                         ([tool], "tool_use"))
        self.assertIn("additionalModelResponseFields", self.converse())


if __name__ == "__main__":
    unittest.main()
