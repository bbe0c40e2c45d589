"""The check before parsing agrees with what a parser would have found, and takes no time."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_dlm_app.errors import ApiError
from vlm_dlm_app.json_shape import MAX_PARTS, check_shape

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
        b'"' + b"\\" * 10**7,
        b'"' + b"\\\\" * 10**6 + b'" []',
        b" " * 10**7,
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
