"""Messages of a chat request: shapes only. What they mean is read by `vlm_dlm_app.conversation`."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from vlm_dlm_app.schemas.common import Text

# So many objects fit into memory; what a request may really have is in the settings.
MAX_ENTRIES = 1024
MAX_CALLS = 128  # of one message
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


class ContentPart(BaseModel):
    """A piece of a message. What stands beside its text is read by `vlm_dlm_app.parts`."""

    model_config = ConfigDict(extra="allow")

    type: Text | None = None
    text: Text | None = None


Content = Annotated[
    list[ContentPart],
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


class FunctionCall(BaseModel):
    """name: of the tool. arguments: JSON, as text or as it is."""

    model_config = ConfigDict(extra="allow")

    name: Text
    arguments: Any = None


class CustomCall(BaseModel):
    """A call of a tool that takes plain text."""

    model_config = ConfigDict(extra="allow")

    name: Text
    input: Text | None = None


class ToolCall(BaseModel):
    """A call that an earlier answer has made."""

    model_config = ConfigDict(extra="allow")

    function: FunctionCall | None = None
    custom: CustomCall | None = None


class ChatMessage(BaseModel):
    """One turn. Text is text: nothing in it can act as a marker of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[Text, Field(examples=list(ROLES))]
    content: Content | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_CALLS)] | None = None
    function_call: FunctionCall | None = None
    refusal: Text | None = None
    images: Annotated[list[Text], Field(max_length=MAX_ENTRIES)] | None = None
