"""Scores are sums over outcomes."""

from __future__ import annotations

import json

import pytest

from vlm_dlm.evaluation.scores import EvaluationReport, KindScore, Outcome, score
from vlm_dlm.events import Stats

RIGHT = "There is one object on a white background: a large red circle at the top left."
WRONG = "There is one object on a white background: a small red circle at the top left."


def outcome(
    kind: str, text: str, expected: str, ids: tuple[int, ...], num_forwards: int
) -> Outcome:
    stats = Stats(9, 4, len(ids), num_forwards, 0, 0.0, 0.0, 0.0, 0.5, 0.1, None, False)
    return Outcome(kind, text, expected, ids, stats)


OUTCOMES = [
    outcome("caption", RIGHT, RIGHT, (1, 2, 3, 4), 1),
    outcome("caption", WRONG, RIGHT, (1, 2, 5, 4), 3),
    outcome("count", "One. ", "One.", (6, 7), 2),
    outcome("count", "Two.", "One.", (8, 7), 2),
    outcome("where", "At the top.", "At the top.", (9,), 1),
]
AR = [*OUTCOMES[:1], outcome("caption", RIGHT, RIGHT, (1, 2, 3, 4), 4), *OUTCOMES[2:]]


def test_quality() -> None:
    scores = score("diffusion", OUTCOMES, AR, is_timed=True)
    assert scores.caption_exact_match == 0.5
    assert scores.object_f1 == 0.5
    assert scores.answer_accuracy == pytest.approx(2 / 3)
    assert scores.answer_accuracy_by_kind == {"count": KindScore(1, 2), "where": KindScore(1, 1)}


def test_speed_is_a_ratio_of_sums() -> None:
    scores = score("diffusion", OUTCOMES, AR, is_timed=True)
    assert scores.caption_tokens_per_forward == 8 / 4
    assert scores.answer_tokens_per_forward == 5 / 5
    assert scores.tokens_per_forward == 13 / 9
    assert scores.caption_tokens_per_s == 8 / 1.0
    assert scores.tokens_per_s == 13 / 2.5


def test_agreement_counts_prompts() -> None:
    scores = score("diffusion", OUTCOMES, AR, is_timed=True)
    assert scores.num_identical_to_ar == 4
    assert scores.agreement_with_ar == 4 / 5
    assert scores.caption_agreement_with_ar == 1 / 2
    assert scores.answer_agreement_with_ar == 1.0


def test_no_time_in_batches_and_no_agreement_without_ar() -> None:
    scores = score("diffusion", OUTCOMES, None, is_timed=False)
    assert scores.tokens_per_s is None
    assert scores.agreement_with_ar is None
    assert scores.num_identical_to_ar is None


def test_report_is_plain_json() -> None:
    results = (score("ar", AR, AR, is_timed=True),)
    report = EvaluationReport("m", "cpu", "float32", 2, 2, 3, 0, 1, results)
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["results"][0]["answer_accuracy_by_kind"]["count"] == {"num_right": 1, "num": 2}
