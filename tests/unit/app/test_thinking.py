"""Whether the model is to think, under every name that clients have for it."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_dlm_app.answering.thinking import thinking_of
from vlm_dlm_app.http.errors import ApiError


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"user": "me"}, None),
        ({"enable_thinking": True}, True),
        ({"enable_thinking": False}, False),
        ({"enable_thinking": None}, None),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"chat_template_kwargs": {"thinking": False}}, False),
        ({"chat_template_kwargs": {}}, None),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning": {"effort": "low"}}, True),
        ({"reasoning": {"enabled": False}}, False),
        ({"reasoning": {}}, None),
        ({"reasoning_effort": "low", "enable_thinking": True}, True),
    ],
)
def test_what_a_request_says(fields: dict[str, Any], expected: bool | None) -> None:
    assert thinking_of(fields) is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": True, "reasoning_effort": "none"},
        {"enable_thinking": "perhaps"},
        {"enable_thinking": [1]},
        {"chat_template_kwargs": [1]},
        {"chat_template_kwargs": {"tone": "polite"}},
        {"reasoning_effort": 7},
    ],
)
def test_what_says_neither_or_both_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        thinking_of(fields)
