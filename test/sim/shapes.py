"""A small validator in the manner of AWS's service models.

Owns: the building blocks (``structure``, ``union``, ``array``, ``text`` ...)
from which an operation's input is described, and the wording of the errors.
A block is a function ``check(value, path, problems)``: a value of the wrong
JSON type raises SerializationException at once; a value that breaks a
constraint adds a line to ``problems``, and all of them are reported together,
with AWS's paths (``messages.1.member.role``).  Paths travel as tuples, as they
are made for every member but read only when something is wrong.

A member that is null counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from typing import Any, NoReturn

from aws_errors import AwsError

Path = tuple[Any, ...]
Check = Callable[[Any, Path, list[str]], None]

JSON_NAMES = {dict: "OBJECT_VALUE", list: "ARRAY_VALUE", str: "STRING_VALUE",
              bool: "BOOLEAN_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE",
              type(None): "NULL_VALUE"}


def validate(value: Any, check: Check) -> None:
    """Raise ValidationException unless ``value`` has the shape."""
    problems: list[str] = []
    check(value, (), problems)
    if problems:
        count = len(problems)
        raise AwsError("ValidationException",
                       f"{count} validation error{'s' if count > 1 else ''} detected: "
                       + "; ".join(problems))


def structure(members: dict[str, Check], required: tuple[str, ...] = ()) -> Check:
    def check(value: Any, path: Path, problems: list[str]) -> None:
        if type(value) is not dict:
            mismatch(value, "Structure", path)
        for name in required:
            if value.get(name) is None:
                problems.append(f"Value null at '{dotted((*path, name))}' failed to satisfy "
                                "constraint: Member must not be null")
        for name, item in value.items():
            if name not in members:
                problems.append(f"Unknown member at '{dotted((*path, name))}'")
            elif item is not None:
                members[name](item, (*path, name), problems)
    return check


def union(members: dict[str, Check]) -> Check:
    inner = structure(members)

    def check(value: Any, path: Path, problems: list[str]) -> None:
        inner(value, path, problems)
        if len(value) != 1 or None in value.values():
            fail(problems, value, path, "Member must have exactly one member set")
    return check


def array(item: Check, minimum: int = 0, maximum: int | None = None) -> Check:
    def check(value: Any, path: Path, problems: list[str]) -> None:
        if type(value) is not list:
            mismatch(value, "List", path)
        check_length(value, minimum, maximum, path, problems)
        for index, element in enumerate(value, 1):
            item(element, (*path, index, "member"), problems)
    return check


def mapping(key: Check, item: Check, minimum: int, maximum: int) -> Check:
    def check(value: Any, path: Path, problems: list[str]) -> None:
        if type(value) is not dict:
            mismatch(value, "Map", path)
        check_length(value, minimum, maximum, path, problems)
        for name, element in value.items():
            key(name, path, problems)
            item(element, (*path, name, "member"), problems)
    return check


def text(minimum: int = 0, maximum: int | None = None, pattern: str | None = None) -> Check:
    compiled = re.compile(pattern) if pattern else None

    def check(value: Any, path: Path, problems: list[str]) -> None:
        if type(value) is not str:
            mismatch(value, "String", path)
        check_length(value, minimum, maximum, path, problems)
        if compiled and not compiled.fullmatch(value):
            fail(problems, value, path,
                 f"Member must satisfy regular expression pattern: {pattern}")
    return check


def enum(*choices: str) -> Check:
    def check(value: Any, path: Path, problems: list[str]) -> None:
        if type(value) is not str:
            mismatch(value, "String", path)
        if value not in choices:
            fail(problems, value, path,
                 f"Member must satisfy enum value set: [{', '.join(choices)}]")
    return check


def integer(minimum: int) -> Check:
    def check(value: Any, path: Path, problems: list[str]) -> None:
        if type(value) is not int:
            mismatch(value, "Integer", path)
        if value < minimum:
            fail(problems, value, path,
                 f"Member must have value greater than or equal to {minimum}")
    return check


def number(minimum: float, maximum: float) -> Check:
    def check(value: Any, path: Path, problems: list[str]) -> None:
        if type(value) not in (int, float):
            mismatch(value, "Float", path)
        if value < minimum:
            fail(problems, value, path,
                 f"Member must have value greater than or equal to {minimum}")
        elif value > maximum:
            fail(problems, value, path,
                 f"Member must have value less than or equal to {maximum}")
    return check


def boolean(value: Any, path: Path, problems: list[str]) -> None:
    if type(value) is not bool:
        mismatch(value, "Boolean", path)


def json_object(value: Any, path: Path, problems: list[str]) -> None:
    """Any JSON object."""
    if type(value) is not dict:
        mismatch(value, "Structure", path)


def document(value: Any, path: Path, problems: list[str]) -> None:
    """Any JSON value."""


def mismatch(value: Any, wanted: str, path: Path) -> NoReturn:
    where = f" at '{dotted(path)}'" if path else ""
    raise AwsError("SerializationException",
                   f"{JSON_NAMES[type(value)]} can not be converted to {wanted}{where}")


def check_length(value: Sized, minimum: int, maximum: int | None, path: Path,
                 problems: list[str]) -> None:
    if len(value) < minimum:
        fail(problems, value, path,
             f"Member must have length greater than or equal to {minimum}")
    elif maximum is not None and len(value) > maximum:
        fail(problems, value, path, f"Member must have length less than or equal to {maximum}")


def fail(problems: list[str], value: Any, path: Path, constraint: str) -> None:
    shown = str(value)[:100]
    problems.append(f"Value '{shown}' at '{dotted(path)}' failed to satisfy constraint: "
                    f"{constraint}")


def dotted(path: Path) -> str:
    return ".".join(map(str, path))
