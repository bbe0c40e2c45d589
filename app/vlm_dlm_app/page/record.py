"""A comparison as the page keeps it: what the report, the charts and the JSON twin are made of."""

from __future__ import annotations

import base64
import binascii
import re
from statistics import median
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from vlm_dlm.processor.image_kinds import kind_of
from vlm_dlm.step import Origin
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.bounds import MAX_NAME_CHARS, BoundedModel, Said, Several
from vlm_dlm_app.schemas.compare import MAX_MODES, ModeResult, Summary

MAX_TOKENS = 8192  # of one answer
MAX_RUNS = 100
MAX_OPTIONS = 64
# As JSON: four answers of 4096 tokens take a third of it. The page draws pictures anew, smaller.
MAX_RECORD_BYTES = 4 * 2**20
MAX_PICTURE_CHARS = 6 * 2**20
_IMAGE = re.compile(r"data:image/(png|jpeg|webp);base64,([A-Za-z0-9+/]+={0,2})")

Count = Annotated[int, Field(ge=0, le=2**53)]
Milliseconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
# One option as it was set; some hold several, by mode or in a list.
Plain = bool | int | float | Annotated[str, Field(max_length=MAX_NAME_CHARS)] | None
PlainValues = Annotated[list[Plain], Several(MAX_OPTIONS)]
PlainPairs = Annotated[dict[Name, Plain | PlainValues], Several(MAX_OPTIONS)]
Options = Annotated[dict[Name, Plain | PlainValues | PlainPairs], Several(MAX_OPTIONS)]
# Places as `ROW` of static/parts.js names them. No NamedTuple: pydantic would take objects as well.
TokenRow = tuple[
    Count, Origin, Count, Count, Number | None, Number | None, Said, Milliseconds, Count
]
TIME: Final = 7


class RunFigures(BoundedModel):
    """One mode in one of several runs, under the names of its metrics."""

    tokens_per_second: Number | None = None
    time_to_first_token_ms: Number | None = None
    time_to_first_sentence_ms: Number | None = None
    queue_time_ms: Number | None = None
    tokens_per_forward: Number | None = None
    num_forwards: Number | None = None
    num_wasted_positions: Number | None = None
    vision_time_ms: Number | None = None
    prefill_time_ms: Number | None = None
    decode_time_ms: Number | None = None


OneRun = Annotated[dict[Name, RunFigures], Several(MAX_MODES)]


class RecordedAnswer(BoundedModel):
    """What one mode wrote, with the moment at which each token became final."""

    title: Name
    result: ModeResult
    tokens: Annotated[list[TokenRow], Several(MAX_TOKENS)]

    @property
    def times_ms(self) -> list[float]:
        """When each token became final."""
        return [token[TIME] for token in self.tokens]

    @property
    def began_ms(self) -> float:
        """When its prompt was ready, on the clock of its tokens."""
        metrics = self.result.metrics
        if metrics is None or not self.tokens:
            return 0.0
        first = self.tokens[0][TIME]
        if metrics.vision_time_ms is None or metrics.prefill_time_ms is None:
            return first
        return min(metrics.vision_time_ms + metrics.prefill_time_ms, first)


class RecordedImage(BoundedModel):
    """Size of the picture as it was given, in pixels. Its name stays with whoever has the file."""

    width: Count
    height: Count


class Record(BoundedModel):
    """One comparison.

    modes: in order.
    runs: figures by mode, one entry per run; fields that are not known here are dropped.
    """

    model_config = ConfigDict(protected_namespaces=())

    format: Literal["vlm-dlm.comparison/1"]
    created: Annotated[str, Field(max_length=40)]
    model: Name
    prompt: Said
    modes: Annotated[list[Name], Several(MAX_MODES, at_least=1)]
    options: Options = Field(default={})
    mode_options: Annotated[dict[Name, Options], Several(MAX_MODES)] = Field(default={})
    parallel: bool = False
    summary: Summary
    answers: Annotated[dict[Name, RecordedAnswer], Several(MAX_MODES)]
    runs: Annotated[list[OneRun], Several(MAX_RUNS)] = Field(default=[])
    image: RecordedImage | None = None

    @property
    def shown(self) -> list[tuple[str, RecordedAnswer]]:
        """Modes with an answer, in order."""
        return [(mode, self.answers[mode]) for mode in self.modes if mode in self.answers]

    def values_of(self, mode: str, figure: str) -> list[float]:
        """One figure in every run that has it. Of a record with one run, or none, that of the
        answer stands for what the run does not tell. figure: a field of `RunFigures`."""
        told = [getattr(run[mode], figure) for run in self.runs if mode in run]
        known: list[float] = [value for value in told if value is not None]
        metrics = self.answers[mode].result.metrics
        if known or metrics is None or len(told) > 1:
            return known
        value: float | None = getattr(metrics, figure)
        return [] if value is None else [value]

    def median_of(self, mode: str, figure: str) -> float | None:
        """Of all runs, None where no run tells."""
        return median(values) if (values := self.values_of(mode, figure)) else None


def read_record(raw: object) -> Record:
    """Checked, text that cannot be written included. Raises pydantic's ValidationError, or ApiError
    for one that is too large."""
    record = Record.model_validate(raw)
    num_bytes = len(record.model_dump_json())
    if num_bytes > MAX_RECORD_BYTES:
        message = f"the record has {num_bytes} bytes; the limit is {MAX_RECORD_BYTES}"
        raise ApiError("body_too_large", message, "record")
    return record


def checked_image(image: str) -> str:
    """A picture as a data URI, and nothing else. Raises ApiError."""
    if len(image) > MAX_PICTURE_CHARS:
        message = f"the image has {len(image)} characters; the limit is {MAX_PICTURE_CHARS}"
        raise ApiError("image_too_large", message, "image")
    found = _IMAGE.fullmatch(image)
    if found is not None:
        try:
            content = base64.b64decode(found[2], validate=True)
        except binascii.Error:
            content = b""
        if kind_of(content) == found[1].upper():
            return image
    message = "the image of a report must be a data URI of a PNG, JPEG or WebP file"
    raise ApiError("bad_input", message, "image")
