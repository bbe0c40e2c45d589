"""What a request tells its caller while it runs. Small frozen values that round-trip through dicts.

Every request yields Started, then any number of Committed and Canvas, then exactly one Finished or
Failed. The texts of all Committed and of the final event, joined, are the answer. A Canvas may be
dropped at any time.

Stop strings: text that may begin one is held back until that is clear, and the answer's text ends
right before the first one to be complete. The token that completed it is the last one handed out
and counted, like an end token; tokens after it in the same block are not part of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vlm_dlm.step import Logprobs, Origin, Token


@dataclass(frozen=True, slots=True)
class Started:
    """The request left the queue.

    request_id: as in every event, of the request that it belongs to.
    mode: its name.
    num_prompt_tokens: of the whole prompt, image tokens included.
    num_image_tokens: places of image features in the prompt.
    time_s: seconds on the engine's monotonic clock, as in every event.
    """

    request_id: str
    mode: str
    num_prompt_tokens: int
    num_image_tokens: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Committed:
    """Final tokens.

    tokens: in order, an end token included.
    text: what is certain to follow the text so far; may be empty.
    num_forwards: decode forwards run so far, this one included.
    """

    request_id: str
    tokens: tuple[Token, ...]
    text: str
    num_forwards: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Canvas:
    """The block being denoised or drafted, for display only.

    token_ids: masks where nothing is chosen yet.
    num_forwards: decode forwards run so far, this one included.
    """

    request_id: str
    token_ids: tuple[int, ...]
    num_forwards: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one finished request, all measured in the engine loop. Times in seconds.

    num_prompt_tokens: of the whole prompt, image tokens included.
    num_image_tokens: places of image features in the prompt.
    num_tokens: of the answer.
    num_forwards: decode forwards, commits and verifies included, prefill not.
    num_rows: of the decode forwards that ran.
    queue_s: from arrival to the start of work on the request.
    vision_s: encoding of images; None where an engine that is not ours does not say.
    prefill_s: computing the prompt; None as vision_s.
    decode_s: from the cached prompt to the end.
    ttft_s: from the start of work (queue excluded) to the first committed token; None without one.
    acceptance_lengths: tokens that every step with a draft to verify accepted, those after the end
        of the answer included (an end token, a stop string, max_tokens); None in modes that never
        verify.
    is_prompt_reused: the prompt's cache was there already; vision_s and prefill_s are of a copy.
    forwards_by_kind: decode forwards that ran, by `ForwardKind` (`ar` runs one less than it
        counts).
    rows_by_kind: their rows.
    num_prefill_forwards: forwards with a piece of the prompt; None as vision_s.
    num_draft_tokens: drafts put before a verifier; it accepted sum(acceptance_lengths) -
        len(acceptance_lengths) of them.
    num_cached: prompt tokens that were not computed again; None where is_prompt_reused says it all.
    """

    num_prompt_tokens: int
    num_image_tokens: int
    num_tokens: int
    num_forwards: int
    num_rows: int
    queue_s: float
    vision_s: float | None
    prefill_s: float | None
    decode_s: float
    ttft_s: float | None
    acceptance_lengths: tuple[int, ...] | None
    is_prompt_reused: bool
    forwards_by_kind: Mapping[str, int] = field(default_factory=dict[str, int])
    rows_by_kind: Mapping[str, int] = field(default_factory=dict[str, int])
    num_prefill_forwards: int | None = 0
    num_draft_tokens: int = 0
    num_cached: int | None = None

    @property
    def prompt_s(self) -> float | None:
        """Images and prompt together, None where that is not known."""
        if self.vision_s is None or self.prefill_s is None:
            return None
        return self.vision_s + self.prefill_s

    @property
    def tokens_per_forward(self) -> float:
        return self.num_tokens / max(self.num_forwards, 1)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.decode_s if self.decode_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete.

    reason: 'stop' (end token or stop string), 'length' (max_tokens) or 'abort'.
    text: the rest of it, held back until now; may be empty.
    stats: what it took.
    """

    request_id: str
    reason: str
    text: str
    stats: Stats
    time_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The request cannot be finished.

    code: stable, from `errors.py`.
    message: what the caller may see.
    """

    request_id: str
    code: str
    message: str
    time_s: float


GenerationEvent = Started | Committed | Canvas | Finished | Failed
_KINDS = {cls.__name__.lower(): cls for cls in (Started, Committed, Canvas, Finished, Failed)}


def is_terminal(event: GenerationEvent) -> bool:
    """True for the one event that ends a request."""
    return isinstance(event, Finished | Failed)


def to_dict(event: GenerationEvent) -> dict[str, Any]:
    """Plain values only; `event` names the kind."""
    return {"event": type(event).__name__.lower(), **asdict(event)}


def from_dict(raw: dict[str, Any]) -> GenerationEvent:
    """Inverse of `to_dict`, also after a trip through JSON."""
    values = dict(raw)
    cls = _KINDS[values.pop("event")]
    if cls is Committed:
        values["tokens"] = tuple(_token_from_dict(token) for token in values["tokens"])
    if cls is Canvas:
        values["token_ids"] = tuple(values["token_ids"])
    if cls is Finished:
        stats = dict(values["stats"])
        if stats["acceptance_lengths"] is not None:
            stats["acceptance_lengths"] = tuple(stats["acceptance_lengths"])
        values["stats"] = Stats(**stats)
    return cls(**values)


def _token_from_dict(raw: dict[str, Any]) -> Token:
    values = dict(raw)
    values["origin"] = Origin(values["origin"])
    if values.get("logprobs") is not None:
        own, top = values["logprobs"]["own"], values["logprobs"]["top"]
        values["logprobs"] = Logprobs(own, tuple((entry[0], entry[1]) for entry in top))
    return Token(**values)
