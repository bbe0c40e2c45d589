"""Which combination counts as best, and which are run at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vlm_dlm.engine.scripted_engine import ScriptedEngine
from vlm_dlm.errors import ModeError
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.sweep import BLOCK_LENGTHS, OVER, RUNNING, progress_html
from vlm_dlm_app.page.sweeping import (
    MAX_POINTS,
    Point,
    Progress,
    best_of,
    grid_of,
    left_out,
    possible_lengths,
    sweepable,
)
from vlm_dlm_app.state import Services

SERVICES = cast("Services", SimpleNamespace(engine=ScriptedEngine()))


def point(threshold: float, speed: float, agreement: float | None) -> Point:
    return Point(threshold, 8, tokens_per_second=speed, agreement=agreement)


ONE = (point(0.9, 10, 1.0),)


def test_best_is_the_fastest_that_agrees_well_enough() -> None:
    slow, fast = point(0.9, 10, 1.0), point(0.8, 20, 0.92)
    wrong, failed = point(0.5, 90, 0.3), Point(0.4, 8, error="no")
    assert best_of([slow, fast, wrong, failed]) == fast
    assert best_of([wrong, point(0.6, 5, 0.5)]) == point(0.6, 5, 0.5)
    assert best_of([failed]) is None
    assert best_of([]) is None


def test_the_grid_is_of_options_that_the_mode_has() -> None:
    both = grid_of(SERVICES, "diffusion", [0.5, 0.9, 0.5], [8, 16])
    assert [one.name for one in both] == [
        "threshold 0.5, block 8",
        "threshold 0.5, block 16",
        "threshold 0.9, block 8",
        "threshold 0.9, block 16",
    ]
    only = grid_of(SERVICES, "quadratic_spec", [0.5, 0.9], [4, 8])
    assert [one.name for one in only] == ["block 4", "block 8"]
    assert [params.block_length for params in only.values()] == [4, 8]


@pytest.mark.parametrize(
    ("mode", "thresholds", "lengths", "message"),
    [
        ("ar", [0.9], [8], "mode ar has nothing to sweep; those that have are diffusion"),
        ("warp", [0.9], [8], "unknown mode"),
        ("diffusion", [], [8], "at least one threshold"),
        ("diffusion", [2.0], [8], "threshold"),
        ("quadratic_spec", [], [64], "block"),
        ("diffusion", [n / 100 for n in range(MAX_POINTS + 1)], [8], "limit is 64"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(
    mode: str, thresholds: list[float], lengths: list[int], message: str
) -> None:
    with pytest.raises((ApiError, ModeError), match=message):
        grid_of(SERVICES, mode, thresholds, lengths)


def test_block_lengths_that_a_mode_cannot_do_are_left_out() -> None:
    grid = grid_of(SERVICES, "quadratic_spec", [], [4, 64, 8])
    assert [one.block_length for one in grid] == [4, 8]
    note = left_out(SERVICES, "quadratic_spec", [4, 64, 8, 64])
    assert note == "Left out: block 64, which Quadratic self-speculation cannot do."
    assert left_out(SERVICES, "diffusion", [4, 64]) == ""
    assert note in progress_html(Progress((), 2, "block 4"), RUNNING, note)


def test_every_offered_length_can_be_taken_over_by_every_mode() -> None:
    for info in sweepable(SERVICES):
        assert possible_lengths(info, BLOCK_LENGTHS) == list(BLOCK_LENGTHS)


@pytest.mark.parametrize(
    ("points", "end", "words"),
    [
        ((), RUNNING, ">0 of 2 done. Now: block 8. AR: 5.0 tokens/s.<"),
        (ONE, "Stopped", ">Stopped after 1 of 2. AR: 5.0 tokens/s. Best: threshold 0.9, block 8.<"),
        ((), "Stopped", ">Stopped before the first was done. AR"),
        (ONE, "Broke off", ">Broke off after 1 of 2. AR"),
        ((), "Broke off", ">Broke off before the first was done. AR"),
        ((*ONE, point(0.5, 5, 0.5)), OVER, ">Done: 2 of 2 combinations. AR"),
    ],
)
def test_progress_is_said_in_words(points: Any, end: str, words: str) -> None:
    done = Progress(points, 2, "block 8", 5.0)
    assert words in progress_html(done, end)
