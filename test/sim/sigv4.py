"""Verification of AWS Signature Version 4, the server's half.

Owns: who is calling.  Written from the published algorithm, deliberately not
sharing a line with the client under test, so that both can only agree by being
right.

Steps, in the order in which AWS complains: is there an Authorization header,
is it complete, is the key known, is the scope right, are the headers that must
be signed signed, is the clock within five minutes, is the session token good,
does the signature match.

The canonical path is the path *as it came over the wire*, percent-encoded once
more: a client that sends ``%3A`` must have signed ``%253A``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Mapping, Set
from functools import lru_cache
from time import gmtime, strftime, strptime
from typing import NamedTuple, NoReturn
from urllib.parse import quote, unquote_to_bytes

from aws_errors import AwsError
from config import Credential
from http_server import Request

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "bedrock"
MAX_SKEW_S = 300
UNRESERVED = "-_.~"
AMZ_DATE = re.compile(r"\d{8}T\d{6}Z")


class Claim(NamedTuple):
    """The parts of an Authorization header."""

    access_key: str
    date: str
    region: str
    service: str
    terminator: str
    signed_headers: str
    signature: str


AUTHORIZATION = re.compile(
    ALGORITHM + r" +Credential=([^/,]+)/([^/,]+)/([^/,]+)/([^/,]+)/([^/,]+) *, *"
    r"SignedHeaders=([^, ]+) *, *Signature=([^, ]+) *")


def read_claim(request: Request) -> Claim | None:
    """Who the request says it is, unverified; None if it does not properly say."""
    match = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    return Claim(*match.groups()) if match else None


def verify(claim: Claim | None, request: Request, credentials: Mapping[str, Credential],
           regions: Set[str], now: float) -> None:
    """Return if the claim is true; raise ``AwsError`` as AWS would if it is not."""
    if claim is None:
        refuse_malformed(request.headers.get("authorization"))
    credential = credentials.get(claim.access_key)
    if credential is None:
        raise AwsError("UnrecognizedClientException")
    amz_date = request.headers.get("x-amz-date", "")
    check_scope(claim, request, regions, amz_date)
    check_signed_headers(claim, request)
    check_clock(amz_date, now)
    check_token(credential, request)
    check_signature(claim, request, credential.secret_key, amz_date)


def refuse_malformed(header: str | None) -> NoReturn:
    """Say what is wrong with an Authorization header that is no claim."""
    if header is None:
        raise AwsError("MissingAuthenticationTokenException")
    scheme, _, rest = header.partition(" ")
    if scheme != ALGORITHM:
        raise AwsError("IncompleteSignatureException",
                       f"Unsupported Authorization scheme: expected '{ALGORITHM}'.")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    missing = [name for name in ("Credential", "SignedHeaders", "Signature")
               if not fields.get(name)]
    if missing:
        raise AwsError("IncompleteSignatureException", " ".join(
            f"Authorization header requires '{name}' parameter." for name in missing))
    raise AwsError("IncompleteSignatureException",
                   "Credential must have exactly 5 slash-delimited elements, e.g. "
                   f"keyid/date/region/service/term, got '{fields['Credential']}'.")


def check_scope(claim: Claim, request: Request, regions: Set[str], amz_date: str) -> None:
    if not AMZ_DATE.fullmatch(amz_date):
        raise AwsError("IncompleteSignatureException",
                       "Authorization header requires existence of a valid 'X-Amz-Date' header.")
    if claim.date != amz_date[:8]:
        raise AwsError("InvalidSignatureException",
                       "Date in Credential scope does not match YYYYMMDD from ISO-8601 version "
                       f"of date from HTTP: '{claim.date}' != '{amz_date[:8]}', "
                       f"from '{amz_date}'.")
    if claim.service != SERVICE:
        raise AwsError("InvalidSignatureException",
                       f"Credential should be scoped to correct service: '{SERVICE}'. ")
    if claim.terminator != "aws4_request":
        raise AwsError("InvalidSignatureException",
                       "Credential should be scoped with a valid terminator: 'aws4_request', "
                       f"not '{claim.terminator}'. ")
    labels = request.headers.get("host", "").split(".")
    host_region = labels[1] if labels[0].startswith("bedrock-runtime") else claim.region
    if claim.region not in regions or claim.region != host_region:
        raise AwsError("InvalidSignatureException",
                       "Credential should be scoped to a valid region. ")


def check_signed_headers(claim: Claim, request: Request) -> None:
    """``host`` always; ``content-type`` and every ``x-amz-*`` header if sent."""
    signed = claim.signed_headers.split(";")
    if "host" not in signed:
        raise AwsError("InvalidSignatureException",
                       "'Host' must be a 'SignedHeader' in the AWS Authorization.")
    unsigned = [name for name in request.headers if name not in signed
                and (name == "content-type" or name.startswith("x-amz-"))]
    if unsigned:
        raise AwsError("InvalidSignatureException", "There were headers present in the request "
                       f"which were not signed: {', '.join(sorted(unsigned))}")
    absent = [name for name in signed if name not in request.headers]
    if absent:
        raise AwsError("InvalidSignatureException",
                       f"Signed headers are missing from the request: {', '.join(absent)}")


def check_clock(amz_date: str, now: float) -> None:
    try:
        signed_at = parse_time(amz_date)
    except ValueError:
        raise AwsError("IncompleteSignatureException",
                       f"'{amz_date}' is not a date.") from None
    if signed_at < now - MAX_SKEW_S:
        raise AwsError("InvalidSignatureException",
                       f"Signature expired: {amz_date} is now earlier than "
                       f"{iso(now - MAX_SKEW_S)} ({iso(now)} - 5 min.)")
    if signed_at > now + MAX_SKEW_S:
        raise AwsError("InvalidSignatureException",
                       f"Signature not yet current: {amz_date} is still later than "
                       f"{iso(now + MAX_SKEW_S)} ({iso(now)} + 5 min.)")


def check_signature(claim: Claim, request: Request, secret: str, amz_date: str) -> None:
    body_hash = hashlib.sha256(request.body).hexdigest()
    if request.headers.get("x-amz-content-sha256", body_hash) != body_hash:
        raise AwsError("InvalidSignatureException",
                       "The value passed in x-amz-content-sha256 does not match the body.")
    canonical = canonical_request(request, claim.signed_headers, body_hash)
    scope = f"{claim.date}/{claim.region}/{claim.service}/{claim.terminator}"
    to_sign = "\n".join((ALGORITHM, amz_date, scope,
                         hashlib.sha256(canonical.encode("latin-1")).hexdigest()))
    key = signing_key(secret, claim.date, claim.region, claim.service)
    expected = hmac.digest(key, to_sign.encode("latin-1"), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), claim.signature.encode("latin-1")):
        raise AwsError(
            "InvalidSignatureException",
            AwsError("InvalidSignatureException").message
            + f"\n\nThe Canonical String for this request should have been\n'{canonical}'"
            + f"\n\nThe String-to-Sign should have been\n'{to_sign}'\n")


def check_token(credential: Credential, request: Request) -> None:
    """The session token must be the one that belongs to the key, or absent."""
    sent = request.headers.get("x-amz-security-token")
    if sent != credential.session_token:
        raise AwsError("UnrecognizedClientException")
    if credential.expired:
        raise AwsError("ExpiredTokenException")


def canonical_request(request: Request, signed_headers: str, body_hash: str) -> str:
    names = sorted(signed_headers.split(";"))
    headers = "".join(f"{name}:{squeeze(request.headers[name])}\n" for name in names)
    return "\n".join((request.method, canonical_path(request.path),
                      canonical_query(request.query), headers, ";".join(names), body_hash))


@lru_cache(maxsize=4096)
def canonical_path(wire_path: str) -> str:
    path = wire_path
    if "//" in path or "/." in path:
        path = without_dot_segments(path)
    return quote(path.encode("latin-1"), safe="/" + UNRESERVED) or "/"


def without_dot_segments(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and segments[-1] in ("", ".", "..") else ""
    return "/" + "/".join(kept) + tail


def canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = (part.partition("=")[::2] for part in query.split("&") if part)
    encoded = sorted((encode(name), encode(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def encode(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=UNRESERVED)


def squeeze(value: str) -> str:
    return " ".join(value.split()) if "  " in value else value


@lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=64)
def parse_time(amz_date: str) -> int:
    return timegm(strptime(amz_date, "%Y%m%dT%H%M%SZ"))


def iso(seconds: float) -> str:
    return strftime("%Y%m%dT%H%M%SZ", gmtime(seconds))
