"""The service as a caller sees it: answers, validation, model ids, spread."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from sim_client import HAIKU, KEY_1, KEY_2, NOVA, Answer, exchange
from sim_testcase import APPLICATION_PROFILE, US_HAIKU, SimTest, user


class ConverseTest(SimTest):
    def test_response_shape(self) -> None:
        answer = self.sim.converse(US_HAIKU, "hello there")
        self.assertEqual(answer.status, 200)
        body = answer.json
        self.assertEqual(body["output"], {"message": {
            "role": "assistant", "content": [{"text": "hello there"}]}})
        self.assertEqual(body["stopReason"], "end_turn")
        self.assertEqual(body["usage"], {"inputTokens": 3, "outputTokens": 3, "totalTokens": 6})
        self.assertGreaterEqual(body["metrics"]["latencyMs"], 0)
        self.assertRegex(answer.headers["x-amzn-requestid"],
                         r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertEqual(answer.headers["content-type"], "application/json")

    def test_utf8_and_escapes_come_back(self) -> None:
        text = "żółć 🚀 \"\\ \t"
        self.assertEqual(self.sim.converse(body=text).text, text)

    def test_max_tokens_truncates(self) -> None:
        body = {"messages": [user("x" * 100)], "inferenceConfig": {"maxTokens": 5}}
        answer = self.sim.converse(body=body)
        self.assertEqual(answer.json["stopReason"], "max_tokens")
        self.assertEqual(answer.text, "x" * 20)
        self.assertEqual(answer.json["usage"]["outputTokens"], 5)

    def test_stop_sequence(self) -> None:
        body = {"messages": [user("one STOP two")],
                "inferenceConfig": {"maxTokens": 50, "stopSequences": ["STOP"]}}
        answer = self.sim.converse(body=body)
        self.assertEqual((answer.text, answer.json["stopReason"]), ("one ", "stop_sequence"))

    def test_echoed_options(self) -> None:
        body = {"messages": [user("x")], "serviceTier": {"type": "flex"},
                "performanceConfig": {"latency": "standard"}}
        answer = self.sim.converse(body=body).json
        self.assertEqual(answer["serviceTier"], {"type": "flex"})
        self.assertEqual(answer["performanceConfig"], {"latency": "standard"})

    def test_reply_modes(self) -> None:
        def reply(mode: Any, prompt: str = "x") -> Answer:
            self.sim.control("PATCH", "/config", {"models": {NOVA: {"reply": mode}}})
            return self.sim.converse(body=prompt)

        self.assertEqual(reply({"fixed": "always"}).text, "always")
        self.assertEqual(reply({"fixed": ""}).json["output"]["message"]["content"], [])
        labels = "Labels: very good, bad, refund request\nI request a refund: it is bad"
        self.assertEqual(reply({"choice": True}, labels).text, "refund request")
        unknown = "Labels: red, green\nzzz"
        self.assertEqual(len({reply({"choice": True}, unknown).text for _ in range(3)}), 1)
        self.assertIn(reply({"choice": True}, unknown).text, ("red", "green"))
        self.assertEqual(reply("choice", "no labels").text, "no labels")
        tool = {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}}
        answer = reply({"content": [tool]}).json
        self.assertEqual(answer["output"]["message"]["content"], [tool])
        self.assertEqual(answer["stopReason"], "tool_use")
        for reason in ("guardrail_intervened", "content_filtered", "max_tokens", "end_turn"):
            self.assertEqual(reply({"fixed": "x", "stop_reason": reason}).json["stopReason"],
                             reason)

    def test_usage_override(self) -> None:
        self.sim.control("PATCH", "/config", {"models": {NOVA: {
            "usage": {"inputTokens": 7, "cacheReadInputTokens": 100}}}})
        self.assertEqual(self.sim.converse(body="12345678").json["usage"], {
            "inputTokens": 7, "outputTokens": 2, "cacheReadInputTokens": 100,
            "totalTokens": 109})

    def test_latency(self) -> None:
        self.sim.control("PATCH", "/config", {"models": {NOVA: {
            "latency_ms": 100, "latency_jitter_ms": 10, "ms_per_output_token": 20}}})
        started = time.monotonic()
        answer = self.sim.converse(body="x" * 20)
        self.assertGreaterEqual(time.monotonic() - started, 0.2)
        self.assertGreaterEqual(answer.json["metrics"]["latencyMs"], 200)

    def test_unknown_operations(self) -> None:
        for method, path in (("POST", "/model/x/fly"), ("GET", f"/model/{NOVA}/converse"),
                             ("POST", "/")):
            self.assert_error(exchange(self.sim.port, method, path, {}, b""),
                              404, "UnknownOperationException")


class ValidationTest(SimTest):
    def refused(self, body: Any, text: str, model: str = NOVA,
                name: str = "ValidationException") -> None:
        with self.subTest(body=str(body)[:80]):
            self.assert_error(self.sim.converse(model, body), 400, name, text)

    def test_shape(self) -> None:
        hello = [user("x")]
        self.refused({}, "'messages' failed to satisfy constraint: Member must not be null")
        self.refused({"messages": []}, "must start with a user message")
        self.refused({"messages": [{"role": "robot", "content": []}]},
                     "Value 'robot' at 'messages.1.member.role' failed to satisfy constraint")
        self.refused({"messages": [user(" \n")]}, "at messages.0.content.0 is blank")
        self.refused({"messages": [{"role": "user", "content": []}]}, "messages.0 is empty")
        self.refused({"messages": [{"role": "user", "content": [
            {"text": "a", "cachePoint": {"type": "default"}}]}]}, "exactly one member")
        self.refused({"messages": [{"role": "user", "content": [{"words": "a"}]}]}, "words")
        self.refused({"messages": hello, "max_tokens": 1}, "Unknown member at 'max_tokens'")
        self.refused({"messages": hello, "inferenceConfig": {"maxTokens": 0, "temperature": 2}},
                     "2 validation errors detected")
        self.refused({"messages": hello, "inferenceConfig": {"topP": -1}}, "greater than or equal")
        self.refused({"messages": hello, "requestMetadata": {}}, "requestMetadata")
        self.refused({"messages": hello, "system": [{"text": ""}]}, "system.1.member.text")

    def test_types_and_json(self) -> None:
        for body in (b"{", b"", b"\xff", b"[NaN]", b"[" * 100_000):
            self.refused(body, "Malformed JSON", name="SerializationException")
        for body in ([], {"messages": {}}, {"messages": [user("x")], "inferenceConfig": {
                "maxTokens": "9"}}, {"messages": [user("x")], "inferenceConfig": {
                    "maxTokens": True}}):
            self.refused(body, "can not be converted", name="SerializationException")

    def test_conversation(self) -> None:
        assistant = {"role": "assistant", "content": [{"text": "y"}]}
        self.refused({"messages": [assistant]}, "must start with a user message")
        self.refused({"messages": [user("x"), user("y")]}, "must alternate")
        self.assertEqual(self.sim.converse(body={"messages": [user("x"), assistant]}).status, 200)
        self.refused({"messages": [user("x"), assistant]}, "prefill",
                     "us.anthropic.claude-sonnet-4-6")

    def test_tools(self) -> None:
        use = {"role": "assistant", "content": [{"toolUse": {
            "toolUseId": "t1", "name": "f", "input": {}}}]}
        result = {"role": "user", "content": [{"toolResult": {
            "toolUseId": "t1", "content": [{"text": "1"}]}}]}
        tools = {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]}
        body = {"messages": [user("x"), use, result], "toolConfig": tools}
        self.assertEqual(self.sim.converse(body=body).status, 200)
        self.refused({"messages": [user("x"), use, result]}, "toolConfig field must be defined")
        self.refused({"messages": [user("x"), use, user("y")], "toolConfig": tools},
                     "Expected toolResult blocks at messages.2.content")

    def test_model_limits(self) -> None:
        hello = [user("x")]
        self.refused({"messages": hello, "inferenceConfig": {"maxTokens": 8193}},
                     "exceeds the model limit of 8192")
        self.refused({"messages": hello, "inferenceConfig": {"temperature": 0, "topP": 1}},
                     "cannot both be specified", US_HAIKU)
        self.refused({"messages": hello, "inferenceConfig": {"temperature": 0}},
                     "cannot be specified", "us.anthropic.claude-opus-4-7")
        self.sim.control("PATCH", "/config", {"models": {NOVA: {"context_window": 10}}})
        self.assertEqual(self.sim.converse(body="x" * 40).status, 200)
        self.refused("x" * 41, "Input is too long for requested model.")


class ModelIdTest(SimTest):
    def test_accepted_forms(self) -> None:
        for model in (NOVA, US_HAIKU, "global." + HAIKU, APPLICATION_PROFILE,
                      f"arn:aws:bedrock:us-east-1::foundation-model/{NOVA}",
                      f"arn:aws:bedrock:us-east-1:111111111111:inference-profile/{US_HAIKU}"):
            with self.subTest(model=model):
                self.assertEqual(self.sim.converse(model).status, 200)
        self.assertEqual(self.sim.log()[3]["modelId"], APPLICATION_PROFILE)

    def test_refused_forms(self) -> None:
        invalid = "model identifier is invalid"
        for model, status, name, text in (
                ("no.such-model", 400, "ValidationException", invalid),
                ("eu." + HAIKU, 400, "ValidationException", invalid),
                ("eu.meta.llama3-3-70b-instruct-v1:0", 400, "ValidationException", invalid),
                (HAIKU, 400, "ValidationException", "on-demand throughput isn't supported"),
                ("anthropic.claude-v2:1", 404, "ResourceNotFoundException", "end of its life"),
                (APPLICATION_PROFILE + "x", 404, "ResourceNotFoundException", "Could not find"),
                (APPLICATION_PROFILE.replace("us-east-1", "us-west-2"), 400,
                 "ValidationException", invalid),
                (APPLICATION_PROFILE.replace("1111", "2222"), 403, "AccessDeniedException", "")):
            with self.subTest(model=model):
                self.assert_error(self.sim.converse(model), status, name, text)

    def test_denied_model(self) -> None:
        accounts = self.sim.control("GET", "/config")["accounts"]
        accounts[1]["denied_models"] = [NOVA]
        self.sim.control("PATCH", "/config", {"accounts": accounts})
        self.assert_error(self.sim.converse(key=KEY_2), 403, "AccessDeniedException")
        self.assertEqual(self.sim.converse(key=KEY_1).status, 200)

    def test_spread(self) -> None:
        regions = {"us-east-1": 1, "us-east-2": 1, "us-west-2": 2}

        def served(count: int) -> list[str]:
            self.sim.control("POST", "/reset")
            for _ in range(count):
                self.sim.converse(US_HAIKU)
            return [entry["inferenceRegion"] for entry in self.sim.log()]

        self.sim.control("PATCH", "/config", {"profiles": {"us": regions}, "seed": 7})
        first = served(30)
        self.assertEqual(set(first), set(regions))
        self.assertEqual(first, served(30), "the same seed, another spread")
        self.sim.control("PATCH", "/config", {"spread": "round_robin"})
        self.assertEqual(Counter(served(9)), dict.fromkeys(regions, 3))

    def test_in_region_call_stays(self) -> None:
        self.sim.converse(NOVA, region="eu-west-1")
        entry = self.sim.log()[0]
        self.assertEqual((entry["region"], entry["inferenceRegion"]), ("eu-west-1", "eu-west-1"))
