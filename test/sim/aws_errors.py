"""The errors of Bedrock's runtime API and of the AWS front end before it.

Owns: the table of names, statuses and texts, and the wire form of an error
(``x-amzn-ErrorType`` header plus JSON body).  Everything that refuses a
request raises ``AwsError``; nothing else writes an error answer, so a real
refusal and a scripted one look the same.
"""

from __future__ import annotations

import json
from typing import Any

SERVICE = "http://internal.amazon.com/coral/com.amazon.bedrock/"
FRONT_END = "http://internal.amazon.com/coral/com.amazon.coral.service/"

TOO_MANY_REQUESTS = ("Too many requests, please wait before trying again. "
                     "You have sent too many requests.  Wait before trying again.")
TOO_MANY_TOKENS = "Too many tokens, please wait before trying again."

# name: (status, who says it, default message)
ERRORS: dict[str, tuple[int, str, str]] = {
    "AccessDeniedException": (
        403, SERVICE, "You don't have access to the model with the specified model ID."),
    "ValidationException": (
        400, SERVICE, "The input fails to satisfy the constraints of the service."),
    "ResourceNotFoundException": (
        404, SERVICE, "The resource you requested does not exist."),
    "ThrottlingException": (429, SERVICE, TOO_MANY_REQUESTS),
    "ModelNotReadyException": (
        429, SERVICE, "Model is not ready for inference. Wait and try your request again."),
    "ModelTimeoutException": (
        408, SERVICE, "Model has timed out in processing the request. Try your request again."),
    "ModelErrorException": (
        424, SERVICE, "The system encountered an unexpected error during processing. "
                      "Try your request again."),
    "InternalServerException": (
        500, SERVICE, "The system encountered an unexpected error during processing. "
                      "Try your request again."),
    "ServiceUnavailableException": (
        503, SERVICE, "Bedrock is unable to process your request."),
    "ServiceQuotaExceededException": (
        400, SERVICE, "Your request exceeds the service quota for your account."),
    "ExpiredTokenException": (
        403, FRONT_END, "The security token included in the request is expired"),
    "InvalidSignatureException": (
        403, FRONT_END,
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method. "
        "Consult the service documentation for details."),
    "UnrecognizedClientException": (
        403, FRONT_END, "The security token included in the request is invalid."),
    "MissingAuthenticationTokenException": (403, FRONT_END, "Missing Authentication Token"),
    "IncompleteSignatureException": (
        400, FRONT_END, "The request signature does not conform to AWS standards."),
    "SerializationException": (400, FRONT_END, "The request body could not be read."),
    "UnknownOperationException": (404, FRONT_END, "The requested operation is not recognized."),
}


UTF8_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
ASCII_ENCODER = json.JSONEncoder(check_circular=False, separators=(",", ":"))


class AwsError(Exception):
    """A refusal, with its name, message and further body members."""

    def __init__(self, name: str, message: str | None = None,
                 members: dict[str, Any] | None = None) -> None:
        self.status, self.origin, default = ERRORS[name]
        self.name = name
        self.message = default if message is None else message
        self.members = members or {}
        super().__init__(self.message)

    def header(self) -> tuple[str, str]:
        return ("x-amzn-ErrorType", f"{self.name}:{self.origin}")

    def body(self) -> bytes:
        return json_bytes({"message": self.message, **self.members})


def full_name(name: str) -> str | None:
    """``Throttling`` and ``ThrottlingException`` alike; None if unknown."""
    for candidate in (name, f"{name}Exception"):
        if candidate in ERRORS:
            return candidate
    return None


def json_bytes(value: Any) -> bytes:
    """Compact UTF-8 JSON.  Lone surrogates, which UTF-8 cannot carry, force the
    escaped form for the whole text."""
    try:
        return UTF8_ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        return ASCII_ENCODER.encode(value).encode()
