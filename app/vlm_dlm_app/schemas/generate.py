"""Bodies of POST /v1/generate: images and a prompt in, one answer out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vlm_dlm_app.schemas.bounds import BoundedModel, Several
from vlm_dlm_app.schemas.common import (
    MAX_INT,
    Address,
    AnswerOptions,
    Flag,
    Name,
    RequestMetrics,
    Text,
    Timings,
    Usage,
    Whole,
)
from vlm_dlm_app.schemas.naming import naming_default

ImageTexts = Annotated[list[Address], Several(), Field(strict=True)]
PromptText = Annotated[Text, Field(min_length=1)]


class Options(AnswerOptions):
    """How an answer is written. An option that is not known is an error.

    include_drafts: a stream also shows the block being written, at most once per draft_interval_ms;
        0 shows every step.
    max_thinking_tokens: after so many the thought is ended; only with enable_thinking.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    include_drafts: Flag = False
    draft_interval_ms: Annotated[Whole, Field(ge=0, le=60_000)] = 0
    enable_thinking: Flag = False
    max_thinking_tokens: Annotated[Whole, Field(ge=0, le=MAX_INT)] | None = None


class Question(BoundedModel):
    """What both routes take.

    images: data URIs, or http(s) URLs where those are switched on.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    prompt: PromptText
    images: ImageTexts = Field(default=[])
    system: Text | None = None
    options: Options = Field(default_factory=Options)
    stream: Flag = False


@naming_default
class GenerateBody(Question):
    """A question to one mode.

    mode: how the answer is written, by name or alias; {default_mode} without.
    """

    mode: Name | None = None


class GenerateReply(BaseModel):
    """One answer.

    finish_reason: the text ended by itself or by a stop text, or at max_tokens.
    """

    id: str
    object: Literal["generation"] = "generation"
    created: int
    model: str
    mode: str
    text: str
    finish_reason: str
    usage: Usage
    timings: Timings
    metrics: RequestMetrics
