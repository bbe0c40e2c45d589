"""Bodies of POST /v1/compare: one prompt in several modes, side by side."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from vlm_dlm_app.http.errors import ErrorDetail
from vlm_dlm_app.schemas.bounds import Said, Several
from vlm_dlm_app.schemas.common import (
    Flag,
    ModeOptions,
    Name,
    RequestMetrics,
    Timings,
    Usage,
)
from vlm_dlm_app.schemas.generate import Question

MAX_MODES = 16


class CompareBody(Question):
    """A question to several modes.

    modes: in the order in which they run; all of them without.
    mode_options: by mode.
    parallel: the modes run together once the prompt is computed, which is faster, but then their
        speeds say little about each other.
    """

    modes: Annotated[list[Name], Several(MAX_MODES, at_least=1)] | None = None
    mode_options: Annotated[dict[Name, ModeOptions], Several(MAX_MODES)] = Field(default={})
    parallel: Flag = False

    @field_validator("modes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Also 'ar,diffusion', as the command line takes it."""
        if not isinstance(value, str):
            return value
        # one more than there may be, so that a long text is refused and not cut into millions
        return [name.strip() for name in value.split(",", MAX_MODES)]


class Difference(BaseModel):
    """The first token that differs.

    ar, own: its text there, null after the end of an answer.
    margin: how far `ar`'s two best logits were apart there; a hair means that rounding decided.
    """

    index: int
    ar: Said | None
    own: Said | None
    margin: float | None


class Agreement(BaseModel):
    """With `ar` on the same prompt.

    share: of equal leading tokens in the longer answer.
    """

    is_identical: bool
    num_equal_tokens: int
    share: float
    first_difference: Difference | None


class ModeResult(BaseModel):
    """One mode's answer.

    agreement: null without an answer of `ar`.
    error: why there is no whole answer; the text is then what was written until it failed, and the
        figures are null.
    """

    mode: Said
    text: Said
    num_tokens: int
    finish_reason: Said | None
    usage: Usage | None
    timings: Timings | None
    metrics: RequestMetrics | None
    agreement: Agreement | None
    error: ErrorDetail | None


class SeenImage(BaseModel):
    """One image as the encoder saw it.

    width, height: pixels after the resize.
    columns, rows: the cells that became one token each.
    num_tokens: in the prompt, where it also has the breaks between rows and the end.
    """

    width: int
    height: int
    columns: int
    rows: int
    num_tokens: int


class Summary(BaseModel):
    """Of the whole comparison.

    vision_ms, prefill_ms: image encoding and prompt, done once for all modes, null where no engine
        says.
    is_prompt_cached: even that was there already.
    agreement: by mode.
    """

    vision_ms: float | None
    prefill_ms: float | None
    prompt_tokens: int
    image_tokens: int
    is_prompt_cached: bool
    is_parallel: bool
    total_ms: float
    agreement: Annotated[dict[Said, Agreement | None], Several(MAX_MODES)]
    images: Annotated[list[SeenImage], Several()]


class CompareReply(BaseModel):
    """The whole reply.

    results: in the order in which the modes were asked for.
    """

    id: str
    object: Literal["comparison"] = "comparison"
    created: int
    model: str
    results: list[ModeResult]
    summary: Summary
