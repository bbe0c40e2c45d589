"""What a run hands back: one answer per mode with its figures, ready to become JSON.

The field names are a contract with outside programs; adding one is a change of that contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vlm_dlm.events import Stats
from vlm_dlm.request import REFERENCE_MODE


@dataclass(frozen=True, slots=True)
class ModeResult:
    """One answer.

    num_forwards: decode forwards, commits and verifies included, prefill not.
    decode_s: from the end of the prefill to the last token.
    ttft_s: image encoding, prefill, and decoding up to the first final token; the first two are
        those of the run that really did them.
    identical_to_ar: same token ids as `ar` on the same prompt, None where `ar` was not run.
    acceptance_lengths: tokens that every step with a draft to verify accepted, those cut off after
        the end of the answer included; None outside the speculative modes.
    first_difference: index of the first token that is not `ar`'s, None where there is none.
    margin: how far the two best logits of `ar` were apart there, None where that is not known.
    """

    mode: str
    text: str
    token_ids: tuple[int, ...]
    num_tokens: int
    num_forwards: int
    tokens_per_forward: float
    decode_s: float
    tokens_per_s: float
    ttft_s: float | None
    finish_reason: str
    identical_to_ar: bool | None
    acceptance_lengths: tuple[int, ...] | None
    first_difference: int | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Answers to one prompt.

    image_tokens: prompt tokens that are cells of images, as in the API.
    vision_s, prefill_s: image encoding and prompt, done once for all results.
    """

    model: str
    device: str
    dtype: str
    image_tokens: int
    prompt_tokens: int
    vision_s: float
    prefill_s: float
    results: tuple[ModeResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the contract's names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine's events said about one request.

    first_token_s: seconds from the end of the prefill; None if nothing was committed.
    margins: of every token, see `Token`.
    """

    mode: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    first_token_s: float | None
    stats: Stats
    margins: tuple[float | None, ...] = ()

    def result(self, prompt_s: float) -> ModeResult:
        """prompt_s: seconds that image and prompt took."""
        stats, first = self.stats, self.first_token_s
        return ModeResult(
            mode=self.mode,
            text=self.text,
            token_ids=self.token_ids,
            num_tokens=stats.num_tokens,
            num_forwards=stats.num_forwards,
            tokens_per_forward=stats.tokens_per_forward,
            decode_s=stats.decode_s,
            tokens_per_s=stats.tokens_per_s,
            ttft_s=None if first is None else prompt_s + first,
            finish_reason=self.finish_reason,
            identical_to_ar=None,
            acceptance_lengths=stats.acceptance_lengths,
        )


def num_equal_leading(own: Sequence[int], other: Sequence[int]) -> int:
    """Tokens before the first that differs, which may be one that only the longer has."""
    pairs = enumerate(zip(own, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(own), len(other)))


def results_of(answers: Sequence[Answer], prompt_s: float) -> tuple[ModeResult, ...]:
    """Each held against `ar`, where that is among them. prompt_s: as for `Answer.result`."""
    results = tuple(answer.result(prompt_s) for answer in answers)
    margins = next((answer.margins for answer in answers if answer.mode == REFERENCE_MODE), ())
    return compared_to_ar(results, margins)


def compared_to_ar(
    results: tuple[ModeResult, ...], margins: Sequence[float | None]
) -> tuple[ModeResult, ...]:
    """Fill in how far each is as `ar`, where that is among the results. margins: of its tokens."""
    expected = next((result.token_ids for result in results if result.mode == REFERENCE_MODE), None)
    if expected is None:
        return results
    return tuple(_compared(result, expected, margins) for result in results)


def _compared(
    result: ModeResult, expected: tuple[int, ...], margins: Sequence[float | None]
) -> ModeResult:
    own = result.token_ids
    if own == expected:
        return replace(result, identical_to_ar=True)
    index = num_equal_leading(own, expected)
    margin = margins[index] if index < len(margins) else None
    return replace(result, identical_to_ar=False, first_difference=index, margin=margin)
