"""What the simulated models say, and how many tokens it is.

Owns: the reply modes and the token estimate (UTF-8 bytes / 4, rounded up).
Everything is deterministic: the same prompt gets the same reply.

* ``echo``     the text of the last user message
* ``choice``   if the prompt has a line ``Labels: a, b, c``: one of the labels,
               the one that shares most words with the rest of the text, else
               one chosen by a hash of it
* ``fixed``    a given text; the empty text gives an empty content list
* ``content``  given content blocks, e.g. a toolUse
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, NamedTuple

BYTES_PER_TOKEN = 4
LABELS = re.compile(r"^Labels:[ \t]*(.+)$", re.MULTILINE)
WORD = re.compile(r"\w+")


class Reply(NamedTuple):
    content: list[dict[str, Any]]
    stop_reason: str
    tokens: int


def byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def tokens_of(length: int) -> int:
    return -(-length // BYTES_PER_TOKEN)


def block_length(block: dict[str, Any]) -> int:
    """Bytes that a content block counts for: its text, or else its JSON."""
    text = block.get("text")
    return byte_length(text) if text is not None else len(json.dumps(block))


def compose(mode: dict[str, Any], prompt: str, all_text: str, max_tokens: int,
            stop_sequences: list[str]) -> Reply:
    """The reply of a model in the given mode, cut as the caller asked."""
    stop_reason = "end_turn"
    if "content" in mode:
        content = mode["content"]
        length = sum(map(block_length, content))
        if any("toolUse" in block for block in content):
            stop_reason = "tool_use"
    else:
        text, stop_reason = cut(reply_text(mode, prompt, all_text), max_tokens, stop_sequences)
        content = [{"text": text}] if text else []
        length = byte_length(text)
    tokens = min(tokens_of(length), max_tokens)
    return Reply(content, mode.get("stop_reason", stop_reason), tokens)


def reply_text(mode: dict[str, Any], prompt: str, all_text: str) -> str:
    if "fixed" in mode:
        return mode["fixed"]
    if "choice" in mode:
        labels = LABELS.search(all_text)
        if labels:
            return choose(labels[1], LABELS.sub("", prompt))
    return prompt


def choose(labels: str, text: str) -> str:
    choices = [label.strip() for label in labels.split(",") if label.strip()]
    words = set(WORD.findall(text.lower()))
    scores = [len(words.intersection(WORD.findall(label.lower()))) for label in choices]
    if max(scores) > 0:
        return choices[scores.index(max(scores))]
    return choices[zlib.crc32(text.encode("utf-8", "surrogatepass")) % len(choices)]


def cut(text: str, max_tokens: int, stop_sequences: list[str]) -> tuple[str, str]:
    """``text`` up to the first stop sequence and to ``max_tokens``, and why it ends."""
    reason = "end_turn"
    stops = [position for position in map(text.find, stop_sequences) if position >= 0]
    if stops:
        text, reason = text[:min(stops)], "stop_sequence"
    if tokens_of(byte_length(text)) > max_tokens:
        data = text.encode("utf-8", "surrogatepass")[:max_tokens * BYTES_PER_TOKEN]
        text, reason = data.decode("utf-8", "ignore"), "max_tokens"
    return text, reason
