"""The Converse operation: from request bytes to a ``Call``, and to an answer.

Owns: the rules on top of the schema, the usage arithmetic and the response
shape.  Another operation is another module with the same two functions,
entered in dataplane.OPERATIONS.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from aws_errors import AwsError
from config import Model
from converse_schema import CONVERSE
from replies import block_length, compose, tokens_of
from shapes import validate

MAX_IMAGES = 20
MAX_DOCUMENTS = 5


class Call(NamedTuple):
    """A valid request, reduced to what the simulator needs."""

    prompt: str                # text of the last user message
    all_text: str              # system and messages
    input_tokens: int
    max_tokens: int
    stop_sequences: list[str]
    metadata: dict[str, str] | None
    options: dict[str, Any]    # performanceConfig, serviceTier: echoed


class Answer(NamedTuple):
    """A response body without its metrics, and its token counts."""

    body: dict[str, Any]
    usage: dict[str, int]


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=no_constant)


def parse(body: bytes, model: Model) -> Call:
    """The call that ``body`` asks for, or the error that Bedrock would give."""
    try:
        request = DECODER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise AwsError("SerializationException", f"Malformed JSON: {error}") from None
    validate(request, CONVERSE)
    messages = request["messages"]
    check_conversation(messages, model)
    kinds = {kind for message in messages for block in message["content"] for kind in block}
    if kinds & {"toolUse", "toolResult"}:
        check_tools(messages, "toolConfig" in request)
    if kinds & {"image", "document"}:
        check_media(messages)
    system = request.get("system") or []
    inference = request.get("inferenceConfig") or {}
    input_tokens = count_input(request, messages, system)
    if input_tokens > model.context_window:
        raise AwsError("ValidationException", "Input is too long for requested model.")
    prompt = next(join_texts(message["content"]) for message in reversed(messages)
                  if message["role"] == "user")
    return Call(
        prompt=prompt,
        all_text="\n".join([join_texts(system),
                            *(join_texts(message["content"]) for message in messages)]),
        input_tokens=input_tokens,
        max_tokens=check_inference(inference, model),
        stop_sequences=inference.get("stopSequences") or [],
        metadata=request.get("requestMetadata"),
        options={name: request[name] for name in ("performanceConfig", "serviceTier")
                 if request.get(name)})


def answer(call: Call, model: Model, mode: dict[str, Any], usage: dict[str, int]) -> Answer:
    """The reply to ``call``; ``usage`` overrides single counts of the estimate."""
    reply = compose(mode, call.prompt, call.all_text, call.max_tokens, call.stop_sequences)
    counts = {"inputTokens": call.input_tokens, "outputTokens": reply.tokens} | usage
    if "totalTokens" not in counts:
        counts["totalTokens"] = sum(counts.values())
    return Answer({
        "output": {"message": {"role": "assistant", "content": reply.content}},
        "stopReason": reply.stop_reason,
        "usage": counts,
        **call.options,
    }, counts)


def join_texts(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if block.get("text") is not None)


def count_input(request: dict[str, Any], messages: list[dict[str, Any]],
                system: list[dict[str, Any]]) -> int:
    length = sum(map(block_length, system))
    for message in messages:
        length += sum(map(block_length, message["content"]))
    if request.get("toolConfig"):
        length += len(json.dumps(request["toolConfig"]))
    return tokens_of(length)


def check_inference(inference: dict[str, Any], model: Model) -> int:
    """maxTokens, or the model's maximum, which is what Bedrock then reserves."""
    chosen = [name for name in ("temperature", "topP") if inference.get(name) is not None]
    if (model.sampling == "one" and len(chosen) > 1) or (model.sampling == "none" and chosen):
        names = " and ".join(f"`{'top_p' if name == 'topP' else name}`" for name in chosen)
        raise AwsError("ValidationException",
                       f"The model returned the following errors: {names} cannot "
                       f"{'both ' if len(chosen) > 1 else ''}be specified for this model.")
    limit = model.max_output_tokens
    asked = inference.get("maxTokens") or limit
    if asked > limit:
        raise AwsError("ValidationException",
                       f"The maximum tokens you requested exceeds the model limit of {limit}. "
                       f"Try again with a maximum tokens value that is lower than {limit}.")
    return asked


def check_conversation(messages: list[dict[str, Any]], model: Model) -> None:
    if not messages or messages[0]["role"] != "user":
        raise AwsError("ValidationException",
                       "A conversation must start with a user message. Try again with a "
                       "conversation that starts with a user message.")
    for index, message in enumerate(messages):
        if index and message["role"] == messages[index - 1]["role"]:
            raise AwsError("ValidationException",
                           "A conversation must alternate between user and assistant roles. Make "
                           "sure the conversation alternates between user and assistant roles "
                           "and try again.")
        check_content(message["content"], index)
    if messages[-1]["role"] != "user" and not model.prefill:
        raise AwsError("ValidationException",
                       "This model does not support assistant message prefill. The conversation "
                       "must end with a user message.")


def check_content(content: list[dict[str, Any]], index: int) -> None:
    if not content:
        raise AwsError("ValidationException",
                       f"The content field in the Message object at messages.{index} is empty. "
                       "Add a ContentBlock object to the content field and try again.")
    for position, block in enumerate(content):
        text = block.get("text")
        if text is not None and not text.strip():
            raise AwsError("ValidationException",
                           "The text field in the ContentBlock object at "
                           f"messages.{index}.content.{position} is blank. "
                           "Add text to the text field, and try again.")


def check_tools(messages: list[dict[str, Any]], has_tool_config: bool) -> None:
    """Every toolUse of a turn needs its toolResult in the next one."""
    open_ids: set[str] = set()
    for index, message in enumerate(messages):
        results = {block["toolResult"]["toolUseId"] for block in message["content"]
                   if block.get("toolResult")}
        if results != open_ids:
            raise AwsError("ValidationException",
                           f"Expected toolResult blocks at messages.{index}.content for the "
                           f"following Ids: {', '.join(sorted(open_ids))}"
                           if open_ids - results else
                           f"The number of toolResult blocks at messages.{index}.content exceeds "
                           "the number of toolUse blocks of previous turn.")
        open_ids = {block["toolUse"]["toolUseId"] for block in message["content"]
                    if block.get("toolUse")}
    if not has_tool_config:
        raise AwsError("ValidationException",
                       "The toolConfig field must be defined when using toolUse and toolResult "
                       "content blocks.")


def check_media(messages: list[dict[str, Any]]) -> None:
    for name, limit in (("image", MAX_IMAGES), ("document", MAX_DOCUMENTS)):
        count = 0
        for index, message in enumerate(messages):
            blocks = [block for block in message["content"] if block.get(name)]
            count += len(blocks)
            if blocks and message["role"] != "user":
                raise AwsError("ValidationException",
                               f"messages.{index}: {name} blocks are only allowed in user "
                               "messages.")
            if name == "document" and blocks and not join_texts(message["content"]):
                raise AwsError("ValidationException",
                               f"messages.{index}: a document needs a text block beside it.")
        if count > limit:
            raise AwsError("ValidationException",
                           f"too many {name}s in the request: {count} > {limit}")
