"""The check before parsing agrees with what a parser would have found, and takes no time."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.json_shape import (
    MAX_BARE_BYTES,
    MAX_CONTAINERS,
    MAX_DIGITS,
    MAX_ESCAPES,
    MAX_PARTS,
    MAX_WIDE_BYTES,
    check_shape,
)

DEPTH = 4
LEAVES = st.none() | st.booleans() | st.integers() | st.text('ab"\\[]{}é\n', max_size=8)


def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\[{', max_size=3), inner)


VALUES = st.recursive(LEAVES, wrapped, max_leaves=12)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@settings(max_examples=200, deadline=None)
@given(VALUES, st.booleans())
def test_depth_is_that_of_the_value(value: Any, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    if depth(value) > DEPTH:
        with pytest.raises(ApiError) as refusal:
            check_shape(body, DEPTH)
        assert (refusal.value.status, refusal.value.code) == (400, "json_too_deep")
    else:
        check_shape(body, DEPTH)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_no_bytes_break_it(body: bytes) -> None:
    with suppress(ApiError):
        check_shape(body, DEPTH)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 10**6, "json_too_deep"),
        (b"[]" * 10**6, "json_too_large"),
        (b"[" + b"{}," * MAX_CONTAINERS + b"{}]", "json_too_large"),
        (b"[" + b"1," * MAX_PARTS + b"1]", "json_too_large"),
        (b"[" + b"null," * MAX_PARTS + b"1]", "json_too_large"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "json_too_deep"),
        (b"{" + b'"a":1,' * (MAX_PARTS // 2) + b'"a":1}', "json_too_large"),
        (b"[" + b" " * MAX_BARE_BYTES + b"1]", "json_too_large"),
        (b"[" + b"1" * (MAX_DIGITS + 1) + b"]", "json_too_large"),
        (b"[0." + b"12345" * MAX_DIGITS + b"e-9]", "json_too_large"),
        (b'"' + b"\\/" * (MAX_ESCAPES + 1) + b'"', "json_too_large"),
        (b'"' + b"a" * MAX_WIDE_BYTES + b'\\ud83d\\ude00"', "json_too_large"),
        (b'"' + b"a" * MAX_WIDE_BYTES + "😀".encode() + b'"', "json_too_large"),
        (b"[" + ('"' + "a" * 4096 + 'é",').encode() * 1024 + b"1]", "json_too_large"),
        (b'"",' * 10**6, "json_too_large"),
        (b'"' + b'\\"' * 10**6, "json_too_large"),
        ('{"a": []}'.encode("utf-16"), "invalid_json"),
        (b'"a\0"', "invalid_json"),
    ],
)
def test_hostile_shapes_are_refused(body: bytes, code: str) -> None:
    with pytest.raises(ApiError) as refusal:
        check_shape(body, 32)
    assert refusal.value.code == code
    assert len(refusal.value.message) < 100


@pytest.mark.parametrize(
    "body",
    [
        b'{"url": "' + b"A" * 10**7 + b'"}',
        b'{"url": "' + (b"A" * 31 + b"\\/") * (MAX_ESCAPES - 1) + b'"}',
        b'{"url": "' + (b"A" * 31 + b"\\u002B") * (MAX_ESCAPES - 1) + b'"}',
        b'"' + b"\\" * MAX_ESCAPES,
        b'"' + b'\\"' * MAX_ESCAPES,
        b'"' + b"\\\\" * (MAX_ESCAPES // 2) + b'" []',
        b"1" * MAX_DIGITS,
        b" " * 10**6,
        b'"',
        b"",
        b"]]]]",
    ],
)
def test_the_rest_is_left_to_the_parser_at_once(body: bytes) -> None:
    began = time.process_time()
    check_shape(body, 32)
    assert time.process_time() - began < 1.0


def test_the_limit_leaves_room_for_the_largest_request() -> None:
    parts = [{"type": "text", "text": "a"}] * 64
    messages = [{"role": "user", "content": parts}] * 64
    assert len(messages) * len(parts) * 5 < MAX_PARTS
    check_shape(json.dumps({"messages": messages}).encode(), 32)


def test_the_limit_leaves_room_for_a_report_on_long_answers() -> None:
    row = [
        131071,
        "draft",
        1024,
        1024,
        0.9342134952545166,
        12.345678901234567,
        "wörd",
        98765.43,
        99,
    ]
    answers = {mode: {"tokens": [row] * 4096} for mode in ("ar", "diffusion", "linear", "quad")}
    check_shape(json.dumps({"record": {"answers": answers}}).encode(), 32)


def parts_of(value: Any) -> int:
    """Values, and the names of fields."""
    if isinstance(value, dict):
        return 1 + sum(1 + parts_of(part) for part in value.values())
    return 1 + sum(map(parts_of, value)) if isinstance(value, list) else 1


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_every_value_counts(value: Any) -> None:
    num_parts = parts_of(value)
    body = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlm_dlm_app.http.json_shape.MAX_PARTS", num_parts - 1)
        with pytest.raises(ApiError):
            check_shape(body, 32)
        # an empty list may count as if it held something
        patch.setattr("vlm_dlm_app.http.json_shape.MAX_PARTS", 2 * num_parts)
        check_shape(body, 32)
