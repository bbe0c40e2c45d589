"""Bodies of /v1/chat/completions, in the shape of OpenAI's API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from vlm_dlm.request import MAX_LOGPROBS
from vlm_dlm_app.schemas.bounds import BoundedModel, Said, Several
from vlm_dlm_app.schemas.common import (
    MAX_INT,
    AnswerOptions,
    Flag,
    Name,
    RequestMetrics,
    Texts,
    Timings,
    Usage,
    Whole,
)
from vlm_dlm_app.schemas.messages import ChatMessage, check_num_parts


class StreamOptions(BoundedModel):
    """What a stream carries besides the answer.

    include_usage: one more chunk at the end, with empty `choices`, that carries usage, timings and
        metrics.
    continuous_usage_stats: with include_usage, every chunk has the usage so far, as in vLLM.
    include_drafts: the block being denoised or drafted, as events named `draft` whose data has
        empty `choices` and object `vlm_dlm.draft`.
    """

    model_config = ConfigDict(extra="allow")

    include_usage: Flag | None = None
    continuous_usage_stats: Flag | None = None
    include_drafts: Flag | None = None


def _none_if(neutral: int) -> BeforeValidator:
    """Others' number for `no wish`."""
    return BeforeValidator(lambda value: None if type(value) is int and value == neutral else value)


def _folded(seed: int | None) -> int | None:
    """The engine takes 63 bits."""
    return None if seed is None else seed % 2**63


def _without_empty(texts: list[str]) -> list[str]:
    return [text for text in texts if text]


Stops = Annotated[Texts, AfterValidator(_without_empty)]
TokenLimit = Annotated[
    Annotated[Whole, Field(ge=1, le=MAX_INT)] | None,
    _none_if(-1),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_INT}, {"enum": [-1, None]}]}
    ),
]
Seed = Annotated[
    Annotated[Whole, Field(ge=-(2**63), lt=2**64)] | None, _none_if(-1), AfterValidator(_folded)
]
Priority = Annotated[
    Literal["interactive", "batch"] | None,
    _none_if(0),
    WithJsonSchema({"enum": ["interactive", "batch", 0, None]}),
]
# Whatever they hold, the limits of one body bound it: nothing here reads it.
Tool = Annotated[dict[Name, Any], Several()]
Tools = Annotated[list[Tool], Several()] | None


class ChatRequest(AnswerOptions):
    """The request. Greedy unless `temperature` is given. What becomes of fields that are not listed
    is in docs/fields.md."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, protected_namespaces=())

    messages: Annotated[list[ChatMessage], Several(at_least=1), BeforeValidator(check_num_parts)]
    model: Name | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: TokenLimit = None
    max_tokens: TokenLimit = None
    seed: Seed = None
    stop: Stops | None = None
    priority: Priority = None
    tools: Tools = None
    functions: Tools = None
    n: Annotated[Whole, Field(ge=1, le=MAX_INT)] | None = None
    generation_mode: Name | None = None
    logprobs: Flag | None = None
    top_logprobs: Annotated[Whole, Field(ge=0, le=MAX_LOGPROBS)] | None = None


class TopLogprob(BaseModel):
    """A token that might have come. bytes: of its text, in UTF-8; it may be half a character."""

    token: Said
    logprob: float
    bytes: Annotated[list[int], Several()]


class TokenLogprob(TopLogprob):
    """A token of the answer, and the best at its place."""

    top_logprobs: Annotated[list[TopLogprob], Several()]


class AnswerLogprobs(BaseModel):
    """Of every token with a text, as the model gave them: without temperature, penalties or what
    was allowed. Of the head and the forward that chose it: in `diffusion` where it was settled, in
    the other modes the causal one."""

    content: Annotated[list[TokenLogprob], Several(MAX_INT)]
    refusal: None = None


class ChatAnswer(BaseModel):
    """What the model wrote."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer.

    timings, metrics: of this answer, where there are several.
    """

    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length"]
    logprobs: AnswerLogprobs | None = None
    timings: Timings | None = None
    metrics: RequestMetrics | None = None


class ChatCompletion(BaseModel):
    """The whole reply.

    timings, metrics: of the first answer.
    """

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    timings: Timings
    metrics: RequestMetrics
    system_fingerprint: str
