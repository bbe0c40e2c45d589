"""Bodies of /v1/chat/completions, in the shape of OpenAI's API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from vlm_dlm_app.schemas.common import (
    MAX_INT,
    AnswerOptions,
    Flag,
    RequestMetrics,
    Text,
    Timings,
    Usage,
    Whole,
)

# So many objects fit into memory; what a request may really have is in the settings.
MAX_ENTRIES = 1024
ROLES = ("system", "developer", "user", "assistant")


class ImageUrl(BaseModel):
    """url: a data URI, or http(s) where the server fetches those. detail has no effect: every
    image is scaled to the model's own size."""

    model_config = ConfigDict(extra="allow")

    url: Text
    detail: Literal["auto", "low", "high"] | None = None


def _as_image_url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


def _as_parts(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is None or isinstance(value, list):
        return cast("Any", value)
    raise ValueError("must be text or a list of parts")


class ContentPart(BaseModel):
    """A piece of a message: type `text` with `text`, or type `image_url` with `image_url`."""

    model_config = ConfigDict(extra="allow")

    type: Text
    text: Text | None = None
    image_url: Annotated[ImageUrl, BeforeValidator(_as_image_url)] | None = None


Content = Annotated[
    list[ContentPart],
    Field(max_length=MAX_ENTRIES),
    BeforeValidator(_as_parts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["type"],
                        "properties": {
                            "type": {"type": "string", "enum": ["text", "image_url"]},
                            "text": {"type": "string"},
                            "image_url": {
                                "anyOf": [
                                    {"type": "string"},
                                    {
                                        "type": "object",
                                        "required": ["url"],
                                        "properties": {
                                            "url": {"type": "string"},
                                            "detail": {"enum": ["auto", "low", "high"]},
                                        },
                                        "additionalProperties": False,
                                    },
                                ]
                            },
                        },
                        "additionalProperties": False,
                    },
                },
            ]
        }
    ),
]


class ChatMessage(BaseModel):
    """One turn. Text is text: nothing in it can act as a marker of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[Text, Field(examples=list(ROLES))]
    content: Content | None = None


class StreamOptions(BaseModel):
    """include_usage: one more chunk at the end, with empty `choices`, that carries usage, timings
    and metrics. continuous_usage_stats: with it, every chunk has the usage so far, as in vLLM.
    include_drafts: the block being denoised or drafted, as events named `draft`
    whose data has empty `choices` and object `vlm_dlm.draft`. include_obfuscation: never done here,
    so true is refused."""

    model_config = ConfigDict(extra="forbid")

    include_usage: Flag | None = None
    continuous_usage_stats: Flag | None = None
    include_drafts: Flag | None = None
    include_obfuscation: Flag | None = None


class ChatRequest(AnswerOptions):
    """The request. Greedy unless `temperature` is given. Fields of OpenAI's API that are not
    listed are refused where they would change the answer."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, protected_namespaces=())

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_ENTRIES)]
    model: Text | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Annotated[Whole, Field(ge=1, le=MAX_INT)] | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_INT)] | None = None
    generation_mode: Annotated[Text, Field(max_length=64)] | None = None


class ChatAnswer(BaseModel):
    """What the model wrote."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer. timings, metrics: of this answer, where there are several."""

    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length"]
    logprobs: None = None
    timings: Timings | None = None
    metrics: RequestMetrics | None = None


class ChatCompletion(BaseModel):
    """The whole reply. timings, metrics: of the first answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    timings: Timings
    metrics: RequestMetrics
    system_fingerprint: str
