"""Messages of a chat request: shapes only. `answering.conversation` reads what they mean."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from vlm_dlm_app.schemas.bounds import MAX_ENTRIES, BoundedModel, Several
from vlm_dlm_app.schemas.common import Address, Name, Text

MAX_CALLS = 128  # of one message
MAX_PARTS = 4096  # of all messages together
_LISTS = ("content", "images", "tool_calls")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_PART_SCHEMA = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "examples": ["text", "image_url"]},
        "text": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "image_url": {
            "description": "An object with `url`, or the URL itself",
            "examples": [{"url": "data:image/png;base64,..."}],
        },
    },
}


def _as_parts(value: Any) -> Any:
    """A text or one part is a list of one; texts in a list are parts."""
    if isinstance(value, str | dict):
        value = [value]
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError("must be text or a list of parts")
    entries = cast("list[Any]", value)
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"has more entries than the limit, which is {MAX_ENTRIES}")
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in entries]


def check_num_parts(value: Any) -> Any:
    """Each part is work and memory, however short: they are counted before any is read."""
    messages = _list_of(value)
    entries = [_list_in(message, name) for message in messages for name in _LISTS]
    results = sum(len(_list_in(part, "content")) for each in entries for part in each)
    if sum(map(len, entries)) + results > MAX_PARTS:
        raise ValueError(f"has more parts in all than the limit, which is {MAX_PARTS}")
    return value


def _list_of(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _list_in(value: Any, name: str) -> list[Any]:
    return _list_of(cast("dict[str, Any]", value).get(name)) if isinstance(value, dict) else []


class ContentPart(BoundedModel):
    """A piece of a message. `answering.parts` reads what stands beside its text."""

    model_config = ConfigDict(extra="allow")

    type: Name | None = None
    text: Text | None = None


Content = Annotated[
    list[ContentPart],
    Several(),
    BeforeValidator(_as_parts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                _PART_SCHEMA,
                {
                    "type": "array",
                    "maxItems": MAX_ENTRIES,
                    "items": {"anyOf": [{"type": "string"}, _PART_SCHEMA]},
                },
            ]
        }
    ),
]


class FunctionCall(BoundedModel):
    """A call of a tool that takes JSON.

    name: of the tool.
    arguments: JSON, as text or as it is.
    """

    model_config = ConfigDict(extra="allow")

    name: Name
    arguments: Any = None


class CustomCall(BoundedModel):
    """A call of a tool that takes plain text."""

    model_config = ConfigDict(extra="allow")

    name: Name
    input: Text | None = None


class ToolCall(BoundedModel):
    """A call that an earlier answer has made."""

    model_config = ConfigDict(extra="allow")

    function: FunctionCall | None = None
    custom: CustomCall | None = None


class ChatMessage(BoundedModel):
    """One turn. Text is text: nothing in it can act as a marker of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[Name, Field(examples=list(ROLES))]
    content: Content | None = None
    tool_calls: Annotated[list[ToolCall], Several(MAX_CALLS)] | None = None
    function_call: FunctionCall | None = None
    refusal: Text | None = None
    images: Annotated[list[Address], Several()] | None = None
