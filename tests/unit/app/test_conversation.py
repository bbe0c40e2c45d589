"""Whatever is in a message, it is read or refused in our own words."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm_dlm_app.answering.conversation import conversation_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.chat import ChatRequest
from vlm_dlm_app.schemas.messages import ROLES

NAMES = (
    *("type", "text", "content", "image_url", "image", "url", "source", "file", "data", "name"),
    *("input", "media_type", "detail", "images", "refusal", "tool_calls", "function", "custom"),
    *("arguments", "function_call", "thinking", "cache_control", "id"),
)
KINDS = (
    *("text", "input_text", "refusal", "image_url", "image", "file", "thinking", "tool_use"),
    *("tool_result", "audio"),
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(KINDS),
    st.just("x" * 300),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)


def with_some(
    required: dict[str, st.SearchStrategy[Any]], names: tuple[str, ...]
) -> st.SearchStrategy[dict[str, Any]]:
    """Up to three further fields: with more, hardly a message gets past its types."""
    some = st.dictionaries(st.sampled_from(names), VALUES, max_size=3)
    return st.builds(dict[str, Any].__or__, some, st.fixed_dictionaries(required))


PARTS = with_some({"type": st.sampled_from(KINDS)}, NAMES[1:])
MESSAGES = with_some(
    {"role": st.sampled_from(ROLES), "content": st.lists(PARTS, max_size=2)}, NAMES[3:]
)


@given(st.lists(MESSAGES, min_size=1, max_size=3))
@settings(max_examples=250, deadline=None)
def test_any_message_is_read_or_refused(messages: list[dict[str, Any]]) -> None:
    try:
        chat = ChatRequest.model_validate({"messages": messages})
    except ValidationError:
        return
    with suppress(ApiError, RequestValidationError):
        turns, _ = conversation_of(chat.messages)
        assert turns
