"""From outcomes to figures. Pure: no model, no engine, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlm_dlm.events import Stats
from vlm_dlm.scenes.parsing import object_f1

CAPTION = "caption"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer next to the right one.

    kind: 'caption' or the kind of question.
    """

    kind: str
    text: str
    expected: str
    token_ids: tuple[int, ...]
    stats: Stats

    @property
    def is_exact(self) -> bool:
        return self.text.strip() == self.expected.strip()


@dataclass(frozen=True, slots=True)
class KindScore:
    """Right answers to one kind of question."""

    num_right: int
    num: int


@dataclass(frozen=True, slots=True)
class ModeScores:
    """Figures of one mode. Shares lie in 0 to 1.

    tokens_per_forward: sum of tokens over sum of decode forwards.
    tokens_per_s: sum of tokens over sum of decode seconds at batch 1, None for larger batches.
    agreement_with_ar: share of prompts with the same token ids as `ar`, None where it was not run.
    """

    mode: str
    caption_exact_match: float
    object_f1: float
    answer_accuracy: float
    answer_accuracy_by_kind: dict[str, KindScore]
    tokens_per_forward: float
    caption_tokens_per_forward: float
    answer_tokens_per_forward: float
    tokens_per_s: float | None
    caption_tokens_per_s: float | None
    answer_tokens_per_s: float | None
    agreement_with_ar: float | None
    caption_agreement_with_ar: float | None
    answer_agreement_with_ar: float | None
    num_identical_to_ar: int | None


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Scores of all modes on the same prompts."""

    model: str
    device: str
    dtype: str
    num_scenes: int
    num_captions: int
    num_answers: int
    seed: int
    batch: int
    results: tuple[ModeScores, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)


def score(
    mode: str, outcomes: Sequence[Outcome], ar: Sequence[Outcome] | None, is_timed: bool
) -> ModeScores:
    """Figures of one mode. `ar`: outcomes of that mode on the same prompts, in the same order."""
    captions = [o for o in outcomes if o.kind == CAPTION]
    answers = [o for o in outcomes if o.kind != CAPTION]
    same = None if ar is None else _same_as(outcomes, ar)
    is_caption = [o.kind == CAPTION for o in outcomes]
    agreement: dict[str, float | None] = {"all": None, "captions": None, "answers": None}
    if same is not None:
        pairs = list(zip(same, is_caption, strict=True))
        agreement["all"] = _mean(same)
        agreement["captions"] = _mean([s for s, caption in pairs if caption])
        agreement["answers"] = _mean([s for s, caption in pairs if not caption])
    return ModeScores(
        mode=mode,
        caption_exact_match=_mean([o.is_exact for o in captions]),
        object_f1=_mean([object_f1(o.text, o.expected) for o in captions]),
        answer_accuracy=_mean([o.is_exact for o in answers]),
        answer_accuracy_by_kind=_by_kind(answers),
        tokens_per_forward=tokens_per_forward(outcomes),
        caption_tokens_per_forward=tokens_per_forward(captions),
        answer_tokens_per_forward=tokens_per_forward(answers),
        tokens_per_s=tokens_per_s(outcomes) if is_timed else None,
        caption_tokens_per_s=tokens_per_s(captions) if is_timed else None,
        answer_tokens_per_s=tokens_per_s(answers) if is_timed else None,
        agreement_with_ar=agreement["all"],
        caption_agreement_with_ar=agreement["captions"],
        answer_agreement_with_ar=agreement["answers"],
        num_identical_to_ar=None if same is None else sum(same),
    )


def tokens_per_forward(outcomes: Sequence[Outcome]) -> float:
    """Sum of tokens over sum of decode forwards; 0 without any."""
    return _ratio(
        sum(o.stats.num_tokens for o in outcomes), sum(o.stats.num_forwards for o in outcomes)
    )


def tokens_per_s(outcomes: Sequence[Outcome]) -> float:
    """Sum of tokens over sum of decode seconds; 0 without any."""
    return _ratio(
        sum(o.stats.num_tokens for o in outcomes), sum(o.stats.decode_s for o in outcomes)
    )


def _same_as(outcomes: Sequence[Outcome], ar: Sequence[Outcome]) -> list[bool]:
    return [one.token_ids == other.token_ids for one, other in zip(outcomes, ar, strict=True)]


def _by_kind(answers: Sequence[Outcome]) -> dict[str, KindScore]:
    kinds = sorted({answer.kind for answer in answers})
    groups = {kind: [a.is_exact for a in answers if a.kind == kind] for kind in kinds}
    return {kind: KindScore(sum(group), len(group)) for kind, group in groups.items()}


def _mean(values: Sequence[float]) -> float:
    return _ratio(sum(values), len(values))


def _ratio(total: float, count: float) -> float:
    return total / count if count else 0.0
