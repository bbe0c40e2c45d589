"""One request inside the engine: how far it has come and what it has cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from vlm_dlm.decoding import DecodingMode
from vlm_dlm.decoding.filters import RowFilter
from vlm_dlm.engine.pages import PageTable
from vlm_dlm.engine.stop_strings import StopStrings
from vlm_dlm.events import Stats
from vlm_dlm.request import GenerationRequest, ImageInput
from vlm_dlm.step import StepPlan


class Detokenizer(Protocol):
    """Turns ids into text piece by piece, never half a character."""

    def push(self, token_ids: list[int]) -> str: ...

    def flush(self) -> str: ...


@dataclass(slots=True)
class Clock:
    """Seconds: moments on the engine's monotonic clock, and sums.

    arrived: it was submitted.
    started: it was admitted; 0 before.
    features_ready: its last image was encoded, or it was admitted.
    prefilled: its prompt is cached; 0 before.
    first_token: was committed; None before.
    vision_s: spent on its images.
    prefill_s: spent on its prompt.
    """

    arrived: float
    started: float = 0.0
    features_ready: float = 0.0
    prefilled: float = 0.0
    first_token: float | None = None
    vision_s: float = 0.0
    prefill_s: float = 0.0


@dataclass(slots=True, eq=False)
class RequestState:
    """How far one request is.

    request: what was asked for, its pixels only until they are features.
    mode, params: what writes the answer, and its options.
    ending_ids: tokens that end the answer.
    max_tokens: most tokens that it may have.
    max_cache_len: most cache slots that it can ever need.
    max_rows: of its widest plan.
    table: its pages, from admission to the end.
    features: [pads, D] of the images encoded so far, until the prompt is cached.
    num_encoded: images encoded so far.
    num_pads_done: image placeholders of the prompt that are cached.
    cache_len: tokens that are cached.
    mode_state: what the mode keeps of it; None until the prompt is cached.
    plan: what it wants to run next; None until the prompt is cached.
    num_tokens: committed so far.
    num_forwards, num_rows: decode forwards as the mode counts them, and rows of those that ran.
    stops: None where no stop string is set, so that these requests do not pay for it.
    rules: of its structure and penalties; the mode moves them on.

    The other figures are those of `Stats`.
    """

    request: GenerationRequest
    mode: DecodingMode[Any, Any, Any]
    params: Any
    detokenizer: Detokenizer
    clock: Clock
    ending_ids: frozenset[int]
    max_tokens: int
    max_cache_len: int
    max_rows: int
    table: PageTable | None = None
    features: Any = None
    num_encoded: int = 0
    num_pads_done: int = 0
    cache_len: int = 0
    mode_state: Any = None
    plan: StepPlan | None = None
    num_tokens: int = 0
    num_forwards: int = 0
    num_rows: int = 0
    acceptance_lengths: list[int] = field(default_factory=list)
    forwards_by_kind: dict[str, int] = field(default_factory=dict)
    rows_by_kind: dict[str, int] = field(default_factory=dict)
    num_prefill_forwards: int = 0
    num_draft_tokens: int = 0
    stops: StopStrings | None = None
    rules: tuple[RowFilter, ...] = ()
    is_prompt_reused: bool = False

    @property
    def id(self) -> str:
        return self.request.request_id

    @property
    def silent_ids(self) -> frozenset[int]:
        """Tokens that end the answer and are kept out of its text here. Where special tokens have
        none, an end token needs no such care."""
        sampling = self.request.sampling
        is_plain = sampling.skip_special_tokens
        return frozenset(sampling.stop_token_ids) if is_plain else self.ending_ids

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.prompt.token_ids)

    @property
    def is_prefilling(self) -> bool:
        return self.mode_state is None

    @property
    def next_image(self) -> ImageInput | None:
        """The first image without features; None once the prompt can be computed."""
        images = self.request.prompt.images
        if self.cache_len or self.num_encoded == len(images):
            return None
        return images[self.num_encoded]

    @property
    def num_rows_wanted(self) -> int:
        """Rows of the next forward: the rest of the prompt, none while images are missing, or the
        mode's whole plan."""
        if self.plan is None:
            return 0 if self.next_image is not None else self.num_prompt_tokens - self.cache_len
        return len(self.plan.token_ids)

    def count_forward(self) -> None:
        """Book that `plan` has run."""
        if self.plan is None:
            return
        kind, num_rows = self.plan.kind, len(self.plan.token_ids)
        self.num_rows += num_rows
        self.forwards_by_kind[kind] = self.forwards_by_kind.get(kind, 0) + 1
        self.rows_by_kind[kind] = self.rows_by_kind.get(kind, 0) + num_rows

    def release(self) -> None:
        """Free cache and features at once. Safe to call twice."""
        self.features = None
        if self.table is not None:
            self.table.release()
            self.table = None

    def stats(self, now: float) -> Stats:
        clock = self.clock
        is_decoding = clock.prefilled > 0.0
        first = clock.first_token
        return Stats(
            num_prompt_tokens=self.num_prompt_tokens,
            num_image_tokens=self.request.prompt.num_image_tokens,
            num_tokens=self.num_tokens,
            num_forwards=self.num_forwards,
            num_rows=self.num_rows,
            queue_s=(clock.started or now) - clock.arrived,
            vision_s=clock.vision_s,
            prefill_s=clock.prefill_s,
            decode_s=now - clock.prefilled if is_decoding else 0.0,
            ttft_s=None if first is None else first - clock.started,
            acceptance_lengths=(
                tuple(self.acceptance_lengths) if self.mode.is_speculative else None
            ),
            is_prompt_reused=self.is_prompt_reused,
            forwards_by_kind=_plain(self.forwards_by_kind),
            rows_by_kind=_plain(self.rows_by_kind),
            num_prefill_forwards=self.num_prefill_forwards,
            num_draft_tokens=self.num_draft_tokens,
        )


def _plain(counts: dict[str, int]) -> dict[str, int]:
    """Keys as plain strings, as they come out of JSON."""
    return {str(kind): count for kind, count in counts.items()}
