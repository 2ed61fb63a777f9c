#!/usr/bin/env python3
"""Write sigv4_vectors.h: signing cases with the results of botocore's signer.

Needs botocore (pip install botocore); run by hand when a case is added:
    ./make_sigv4_vectors.py > sigv4_vectors.h

The cases follow the public AWS Signature Version 4 test suite: same key, date, Region and
service, one rule per case.
"""

import sys
from hashlib import sha256
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

DATE = "20150830T123600Z"
HOST = "example.amazonaws.com"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
FORM = "application/x-www-form-urlencoded"
TOKEN = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPf=="
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# name, method, path, query, further headers, body, session token
CASES = [
    ("get-vanilla", "GET", "/", "", [], "", None),
    ("get-vanilla-empty-path", "GET", "", "", [], "", None),
    ("get-vanilla-query", "GET", "/", "Param1=value1", [], "", None),
    ("get-vanilla-empty-query-key", "GET", "/", "Param1", [], "", None),
    ("get-vanilla-query-empty-value", "GET", "/", "Param1=", [], "", None),
    ("get-vanilla-query-order-key", "GET", "/", "Param2=value2&Param1=value1", [], "", None),
    ("get-vanilla-query-order-key-case", "GET", "/", "b=1&B=2&a=3&A=4", [], "", None),
    ("get-vanilla-query-order-value", "GET", "/", "Param1=value2&Param1=value1", [], "", None),
    ("get-vanilla-query-order-prefix", "GET", "/", "Foo-=2&Foo=9&Foo0=1", [], "", None),
    ("get-vanilla-query-order-encoded", "GET", "/", "z=1&%C3%A9=2&%3A=3&0=4", [], "", None),
    ("get-vanilla-query-unreserved", "GET", "/", f"{UNRESERVED}={UNRESERVED}", [], "", None),
    ("get-vanilla-query-encoded-slash", "GET", "/", "path=a/b&path2=a%2Fb", [], "", None),
    ("get-vanilla-query-space", "GET", "/", "p=with%20space&q=with space", [], "", None),
    ("get-vanilla-query-equals-in-value", "GET", "/", "p=a=b==", [], "", None),
    ("get-vanilla-utf8-query", "GET", "/", "\u1234=bar", [], "", None),
    ("get-utf8", "GET", "/\u1234", "", [], "", None),
    ("get-utf8-encoded", "GET", "/%E1%88%B4", "", [], "", None),
    ("get-space", "GET", "/example space/", "", [], "", None),
    ("get-unreserved", "GET", f"/{UNRESERVED}", "", [], "", None),
    ("get-reserved", "GET", "/a:b@c!d$e&f'g(h)i*j+k,l;m=n", "", [], "", None),
    ("get-encoded-colon", "GET", "/model/a%3Ab%2Fc/converse", "", [], "", None),
    ("get-relative", "GET", "/example/..", "", [], "", None),
    ("get-relative-relative", "GET", "/example1/example2/../..", "", [], "", None),
    ("get-relative-above-root", "GET", "/../../example", "", [], "", None),
    ("get-relative-inner", "GET", "/a/./b/../c/", "", [], "", None),
    ("get-slash", "GET", "//", "", [], "", None),
    ("get-slash-dot-slash", "GET", "/./", "", [], "", None),
    ("get-slash-pointless-dot", "GET", "/./example", "", [], "", None),
    ("get-slashes", "GET", "//example//", "", [], "", None),
    ("get-dots-in-names", "GET", "/.a/b./..c/...", "", [], "", None),
    ("get-header-key-duplicate", "GET", "/", "",
     [("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")], "", None),
    ("get-header-value-order", "GET", "/", "",
     [("my-header1", "value4"), ("my-header1", "value1"), ("my-header1", "value3"),
      ("my-header1", "value2")], "", None),
    ("get-header-value-trim", "GET", "/", "",
     [("my-header1", " value1"), ("my-header2", ' "a   b   c" ')], "", None),
    ("get-header-value-tabs", "GET", "/", "", [("my-header1", "\tvalue1 \t value2\t")], "", None),
    ("get-header-value-multiline", "GET", "/", "",
     [("my-header1", "value1\n  value2\n     value3")], "", None),
    ("get-header-value-empty", "GET", "/", "", [("my-header1", "")], "", None),
    ("get-header-name-order", "GET", "/", "",
     [("my-header", "c"), ("my-header1", "b"), ("my_header", "a"), ("accept", "d")], "", None),
    ("post-vanilla", "POST", "/", "", [], "", None),
    ("post-vanilla-query", "POST", "/", "Param1=value1", [], "", None),
    ("post-header-key-sort", "POST", "/", "", [("my-header1", "value1")], "", None),
    ("post-header-value-case", "POST", "/", "", [("my-header1", "VALUE1")], "", None),
    ("post-sts-header-before", "POST", "/", "", [], "", TOKEN),
    ("post-x-www-form-urlencoded", "POST", "/", "", [("content-type", FORM)],
     "Param1=value1", None),
    ("post-x-www-form-urlencoded-parameters", "POST", "/", "",
     [("content-type", FORM + "; charset=utf8")], "Param1=value1", None),
    ("post-utf8-body", "POST", "/", "", [("content-type", "application/json")],
     '{"text":"Gr\u00fc\u00dfe \u1234"}', None),
]


def split_query(query):
    """Decoded pairs, as an SDK holds them before it encodes them."""
    if not query:
        return {}
    pairs = (part.partition("=") for part in query.split("&"))
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def sign(case):
    _, method, path, query, headers, body, token = case
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", SECRET, token), "service", "us-east-1")
    request = AWSRequest(method, f"https://{HOST}{path}", data=body.encode(),
                         params=split_query(query))
    request.headers["Host"] = HOST
    for name, value in headers:
        request.headers[name] = value
    request.context["timestamp"] = DATE
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    return canonical, signature


def c_string(text):
    """A C literal; an escape is followed by a new literal so that it cannot swallow a digit."""
    out = ""
    for byte in text.encode():
        if 32 <= byte < 127 and byte not in b'"\\':
            out += chr(byte)
        elif byte in b'"\\':
            out += "\\" + chr(byte)
        elif byte == 10:
            out += "\\n"
        elif byte == 9:
            out += "\\t"
        else:
            out += f'\\x{byte:02x}""'
    return f'"{out}"'


def main():
    out = sys.stdout.write
    out("/*\n * sigv4_vectors.h — signing cases and their results.\n *\n"
        " * Modelled on the public AWS Signature Version 4 test suite.  The results were generated\n"
        " * with botocore's signer by make_sigv4_vectors.py; do not edit by hand.\n */\n")
    out("/* clang-format off */\nstatic const SigningCase signing_cases[] = {\n")
    for case in CASES:
        name, method, path, query, headers, body, token = case
        canonical, signature = sign(case)
        all_headers = [("host", HOST), ("x-amz-date", DATE)] + headers
        if token:
            all_headers.insert(0, ("x-amz-security-token", token))
        out(f"\t{{\n\t\t.name = {c_string(name)},\n\t\t.method = {c_string(method)},\n")
        out(f"\t\t.path = {c_string(path)},\n\t\t.query = {c_string(query)},\n\t\t.headers = {{\n")
        for header, value in all_headers:
            out(f"\t\t\t{{{c_string(header)}, {c_string(value)}}},\n")
        out(f"\t\t}},\n\t\t.body = {c_string(body)},\n")
        out(f"\t\t.canonical_hash = \"{sha256(canonical.encode()).hexdigest()}\",\n")
        out(f"\t\t.signature = \"{signature}\",\n\t}},\n")
    out("};\n/* clang-format on */\n")


main()
