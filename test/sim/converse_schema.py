"""The input of Converse as Bedrock's service model describes it.

Owns: member names, required members and limits.  The rules that models add on
top (alternating roles, blank texts ...) are in converse.py.  A member that is
not here is refused; real Bedrock may ignore it, but a client that sends one
has most likely misspelt it.
"""

from __future__ import annotations

from shapes import (Check, array, boolean, document, enum, integer, json_object, mapping, number,
                    structure, text, union)

METADATA_CHARS = r"[a-zA-Z0-9\s:_@$#=/+,\-.]*"
TOOL_NAME = text(1, 64, r"[a-zA-Z0-9_-]+")

SOURCE = union({
    "bytes": text(1),
    "s3Location": structure({"uri": text(1, 1024), "bucketOwner": text()}, ("uri",)),
})


def media(*formats: str) -> Check:
    return structure({"format": enum(*formats), "source": SOURCE}, ("format", "source"))


IMAGE = media("png", "jpeg", "gif", "webp")
VIDEO = media("mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp")
AUDIO = media("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a",
              "mpeg", "mpga", "pcm", "webm")
TEXTS = array(structure({"text": text()}))
CITATIONS = structure({"enabled": boolean}, ("enabled",))
DOCUMENT = structure({
    "name": text(1, 200, r"[A-Za-z0-9\s\-()\[\]]+"),
    "format": enum("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"),
    "source": union({"bytes": text(1), "text": text(), "content": TEXTS,
                     "s3Location": structure({"uri": text(1), "bucketOwner": text()}, ("uri",))}),
    "context": text(),
    "citations": CITATIONS,
}, ("name", "source"))
SEARCH_RESULT = structure({"source": text(), "title": text(), "content": TEXTS,
                           "citations": CITATIONS}, ("source", "title", "content"))
CACHE_POINT = structure({"type": enum("default"), "ttl": enum("5m", "1h")}, ("type",))
GUARD_CONTENT = union({
    "text": structure({"text": text(), "qualifiers": array(
        enum("grounding_source", "query", "guard_content"))}, ("text",)),
    "image": structure({"format": enum("png", "jpeg"), "source": union({"bytes": text(1)})},
                       ("format", "source")),
})
TOOL_RESULT = structure({
    "toolUseId": text(1, 64),
    "content": array(union({"json": document, "text": text(), "image": IMAGE,
                            "document": DOCUMENT, "video": VIDEO,
                            "searchResult": SEARCH_RESULT})),
    "status": enum("success", "error"),
    "type": text(),
}, ("toolUseId", "content"))
TOOL_CHANGE = structure({"tool": structure({"type": text(), "name": text(),
                                            "serverName": text()})}, ("tool",))

CONTENT_BLOCK = union({
    "text": text(),
    "image": IMAGE,
    "document": DOCUMENT,
    "video": VIDEO,
    "audio": AUDIO,
    "toolUse": structure({"toolUseId": text(1, 64), "name": TOOL_NAME, "input": document,
                          "type": text()}, ("toolUseId", "name", "input")),
    "toolResult": TOOL_RESULT,
    "reasoningContent": union({
        "reasoningText": structure({"text": text(), "signature": text()}, ("text",)),
        "redactedContent": text()}),
    "citationsContent": structure({"content": array(union({"text": text()})),
                                   "citations": array(document)}),
    "searchResult": SEARCH_RESULT,
    "guardContent": GUARD_CONTENT,
    "cachePoint": CACHE_POINT,
    "toolAddition": TOOL_CHANGE,
    "toolRemoval": TOOL_CHANGE,
})

TOOL = union({
    "toolSpec": structure({"name": TOOL_NAME, "description": text(1), "strict": boolean,
                           "inputSchema": union({"json": json_object})},
                          ("name", "inputSchema")),
    "systemTool": structure({"name": TOOL_NAME}, ("name",)),
    "cachePoint": CACHE_POINT,
})

CONVERSE = structure({
    "messages": array(structure({"role": enum("user", "assistant"),
                                 "content": array(CONTENT_BLOCK)}, ("role", "content"))),
    "system": array(union({"text": text(1), "guardContent": GUARD_CONTENT,
                           "cachePoint": CACHE_POINT})),
    "inferenceConfig": structure({
        "maxTokens": integer(1),
        "temperature": number(0, 1),
        "topP": number(0, 1),
        "stopSequences": array(text(1), 0, 2500),
    }),
    "toolConfig": structure({
        "tools": array(TOOL, 1),
        "toolChoice": union({"auto": structure({}), "any": structure({}),
                             "tool": structure({"name": TOOL_NAME}, ("name",))}),
    }, ("tools",)),
    "guardrailConfig": structure({
        "guardrailIdentifier": text(0, 2048),
        "guardrailVersion": text(0, 10, r"(|([1-9][0-9]{0,7})|DRAFT)"),
        "trace": enum("enabled", "disabled", "enabled_full"),
    }),
    "additionalModelRequestFields": document,
    "additionalModelResponseFieldPaths": array(text(1, 256), 0, 10),
    "promptVariables": mapping(text(), union({"text": text()}), 0, 1000),
    "requestMetadata": mapping(text(1, 256, METADATA_CHARS), text(0, 256, METADATA_CHARS), 1, 16),
    "performanceConfig": structure({"latency": enum("standard", "optimized")}),
    "serviceTier": structure({"type": enum("priority", "default", "flex", "reserved")}, ("type",)),
    "outputConfig": structure({
        "textFormat": structure({
            "type": enum("json_schema"),
            "structure": union({"jsonSchema": structure(
                {"schema": text(1), "name": text(), "description": text()}, ("schema",))}),
        }, ("type", "structure")),
        "effort": text(1, 16),
    }),
}, ("messages",))
