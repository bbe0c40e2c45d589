"""Requests that are large in one place: each field of each route, each type of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from tests.unit.app.page_records import make_record
from vlm_dlm_app.page.record import Record
from vlm_dlm_app.page.report_route import ReportBody
from vlm_dlm_app.schemas.chat import ChatRequest
from vlm_dlm_app.schemas.compare import CompareBody
from vlm_dlm_app.schemas.generate import GenerateBody

TOTAL = 25 * 2**20 - 8192  # of the largest body that is taken, with room for the rest of it
# What a parser may still get, of each kind; then the same until the body is full.
WITHIN = {"numbers": 199_000, "lists": 49_000, "objects": 49_000, "texts": 99_000, "fields": 66_000}

_BOUNDS = re.compile(r"(, )?(Ge|Gt|Le|Lt)\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value goes: JSON before and after it. name: the route's path and the field. type: of
    the field, as its model says."""

    path: str
    name: str
    type: str
    before: bytes
    after: bytes

    def body(self, value: bytes) -> bytes:
        return b"".join((self.before, value, self.after))


def places() -> list[Place]:
    """Every field of every body, with one that nobody knows in each object."""
    message = {"role": "user", "content": "hi"}
    bases: tuple[tuple[str, type[BaseModel], Mapping[str, Any]], ...] = (
        ("/v1/chat/completions", ChatRequest, {"messages": [message], "max_tokens": 4}),
        ("/v1/generate", GenerateBody, {"prompt": "hi", "options": {"max_tokens": 4}}),
        ("/v1/compare", CompareBody, {"prompt": "hi", "options": {"max_tokens": 4}}),
        ("/page/report", ReportBody, {"record": make_record()}),
    )
    found: list[Place] = []
    for path, model, base in bases:
        head = json.dumps(base).encode()[:-1] + b", "
        found += _fields(path, model, head, b"}", "")
    head = b'{"record": ' + json.dumps(make_record()).encode()[:-1] + b", "
    return found + list(_fields("/page/report", Record, head, b"}}", "record."))


def one_per_type(all_places: list[Place]) -> list[Place]:
    """The first place of each type; bounds of numbers make no difference."""
    found: dict[str, Place] = {}
    for place in all_places:
        found.setdefault(_BOUNDS.sub("", place.type), place)
    return list(found.values())


def _fields(
    path: str, model: type[BaseModel], before: bytes, after: bytes, name: str
) -> Iterator[Place]:
    extra = ("metadata",) if model.model_config.get("extra") == "allow" else ("unknown",)
    for field in (*model.model_fields, *extra):
        head = before + json.dumps(field).encode() + b": "
        info = model.model_fields.get(field)
        kind = "unknown" if info is None else repr(info.annotation)
        yield Place(path, f"{path} {name}{field}", kind, head, after)
        if info is not None:
            yield from _below(path, info.annotation, head, after, name + field)


def _below(path: str, kind: Any, before: bytes, after: bytes, name: str) -> Iterator[Place]:
    """Fields of the models within a field of this type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from _fields(path, kind, before + b"{", b"}" + after, f"{name}.")
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        yield from _below(path, arguments[0], before + b"[", b"]" + after, f"{name}.0")
    elif origin is dict:
        inner = before + b'{"ar": ', b"}" + after
        yield from _below(path, arguments[1], *inner, f"{name}.ar")
    elif arguments:
        for part in arguments:
            yield from _below(path, part, before, after, name)


def filled(part: bytes) -> bytes:
    """As often as it fits into a body."""
    return part * (TOTAL // len(part))


def many(part: bytes, num: int, last: bytes = b"1") -> bytes:
    """A list with that before its last value."""
    return b"[" + part * num + last + b"]"


def text(content: bytes) -> bytes:
    """A text of JSON, with the content as it is."""
    return b'"' + content + b'"'


# Name -> what makes it: all together they are hundreds of megabytes.
# The most of each kind that is parsed at all.
HEAVY_VALUES: dict[str, Callable[[], bytes]] = {
    "numbers": lambda: many(b"0.9342134952545166,", WITHIN["numbers"]),
    "lists": lambda: many(b"[],", WITHIN["lists"], b"[]"),
    "objects": lambda: many(b'{"a":0},', WITHIN["objects"], b"{}"),
    "fields": lambda: b"{" + b",".join(b'"k%d":0' % i for i in range(WITHIN["fields"])) + b"}",
    "text": lambda: text(b"A" * TOTAL),
}
# What is refused before it is parsed, or at the first look.
OTHER_VALUES: dict[str, Callable[[], bytes]] = {
    "ones": lambda: b"[" + filled(b"1,") + b"1]",
    "nulls": lambda: b"[" + filled(b"null,") + b"1]",
    "many lists": lambda: b"[" + filled(b"[],") + b"1]",
    "many objects": lambda: b"[" + filled(b"{},") + b"1]",
    "many texts": lambda: b"[" + filled(b'"",') + b"1]",
    "texts": lambda: many(b'"ab",', WITHIN["texts"]),
    "duplicates": lambda: b"{" + filled(b'"a":1,') + b'"a":1}',
    "few duplicates": lambda: b"{" + b'"a":1,' * WITHIN["fields"] + b'"a":1}',
    "depth": lambda: b"[" * (TOTAL // 2) + b"]" * (TOTAL // 2),
    "deep objects": lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "huge integer": lambda: b"9" * 100_000,
    "huger integer": lambda: b"9" * TOTAL,
    "huge float": lambda: b"0." + b"9" * 1_000_000,
    "large exponent": lambda: b"1e" + b"9" * 100_000,
    "long numbers": lambda: b"[" + b",".join([b"9" * 399] * 10_000) + b"]",
    "spaces": lambda: b" " * TOTAL + b"1",
    "slashes": lambda: text(b"\\/" * (TOTAL // 2)),
    "some slashes": lambda: text(filled(b"A" * 31 + b"\\/")),
    "quotes": lambda: text(b'\\"' * 890_000),
    "wide text": lambda: text(b"a" * (TOTAL - 4) + "😀".encode()),
    "wide escape": lambda: text(b"a" * (TOTAL - 12) + b"\\ud83d\\ude00"),
    "picture": lambda: text(b"data:image/png;base64," + b"A" * (TOTAL // 4 * 4 - 32)),
    "commas": lambda: text(b"," * TOTAL),
    "brackets in text": lambda: text(b"[{" * (TOTAL // 2)),
    "markup": lambda: text(b"<" * 4_000_000),
}
