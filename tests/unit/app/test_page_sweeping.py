"""Which combination counts as best, and which are run at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vlm_dlm.engine.scripted_engine import ScriptedEngine
from vlm_dlm.errors import ModeError
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.options import options_of
from vlm_dlm_app.page.sweep import OVER, RUNNING, progress_html
from vlm_dlm_app.page.sweeping import (
    MAX_POINTS,
    Point,
    Progress,
    as_json,
    axes_of,
    best_of,
    grid_of,
    left_out,
    possible_values,
    sweepable,
)
from vlm_dlm_app.state import Services

SERVICES = cast("Services", SimpleNamespace(engine=ScriptedEngine()))


def axes(thresholds: list[float], lengths: list[int]) -> dict[str, list[Any]]:
    return {"threshold": thresholds, "block_length": lengths}


def at(threshold: float, length: int = 8) -> tuple[tuple[str, Any], ...]:
    return ("threshold", threshold), ("block_length", length)


def point(threshold: float, speed: float, agreement: float | None) -> Point:
    return Point(at(threshold), tokens_per_second=speed, agreement=agreement)


ONE = (point(0.9, 10, 1.0),)


def test_best_is_the_fastest_that_agrees_well_enough() -> None:
    slow, fast = point(0.9, 10, 1.0), point(0.8, 20, 0.92)
    wrong, failed = point(0.5, 90, 0.3), Point(at(0.4), error="no")
    assert best_of([slow, fast, wrong, failed]) == fast
    assert best_of([wrong, point(0.6, 5, 0.5)]) == point(0.6, 5, 0.5)
    assert best_of([failed]) is None
    assert best_of([]) is None


def test_the_grid_is_of_options_that_the_mode_has() -> None:
    both = grid_of(SERVICES, "diffusion", axes([0.5, 0.9, 0.5], [8, 16]))
    assert [one.name for one in both] == [
        "threshold 0.5, block 8",
        "threshold 0.5, block 16",
        "threshold 0.9, block 8",
        "threshold 0.9, block 16",
    ]
    only = grid_of(SERVICES, "quadratic_spec", axes([0.5, 0.9], [4, 8]))
    assert [one.name for one in only] == ["block 4", "block 8"]
    assert [params.block_length for params in only.values()] == [4, 8]


@pytest.mark.parametrize(
    ("mode", "thresholds", "lengths", "message"),
    [
        ("ar", [0.9], [8], "mode ar has nothing to sweep; those that have are diffusion"),
        ("warp", [0.9], [8], "unknown mode"),
        ("diffusion", [], [8], "at least one threshold and one block length"),
        ("quadratic_spec", [0.9], [], "at least one block length"),
        ("diffusion", [2.0], [8], "threshold"),
        ("quadratic_spec", [], [64], "block"),
        ("diffusion", [n / 100 for n in range(MAX_POINTS + 1)], [8], "limit is 64"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(
    mode: str, thresholds: list[float], lengths: list[int], message: str
) -> None:
    with pytest.raises((ApiError, ModeError), match=message):
        grid_of(SERVICES, mode, axes(thresholds, lengths))


def test_values_that_a_mode_cannot_do_are_left_out() -> None:
    lengths = axes([], [4, 64, 8, 64])
    grid = grid_of(SERVICES, "quadratic_spec", lengths)
    assert [one.options for one in grid] == [(("block_length", 4),), (("block_length", 8),)]
    note = left_out(SERVICES, "quadratic_spec", lengths)
    assert note == "Left out: block 64, which Quadratic self-speculation cannot do."
    assert left_out(SERVICES, "diffusion", axes([0.9], [4, 64])) == ""
    assert note in progress_html(Progress((), 2, "block 4"), RUNNING, note)
    both = axes([2.5, 0.9, -1.0], [1024, 8])
    assert [one.name for one in grid_of(SERVICES, "diffusion", both)] == ["threshold 0.9, block 8"]
    note = left_out(SERVICES, "diffusion", both)
    assert note == "Left out: threshold 2.5, -1; block 1024, which Block diffusion cannot do."


def test_every_offered_value_can_be_taken_over_by_every_mode() -> None:
    for info in sweepable(SERVICES):
        for option in options_of(info.options):
            assert possible_values(info.name, option, option.sweep) == list(option.sweep)


def test_what_a_program_does_not_say_is_swept_as_usual() -> None:
    usual = {"threshold": (0.7, 0.9, 1.0), "block_length": (8, 16, 32)}
    assert axes_of({"threshold": None, "block_length": []}, {}) == usual
    assert axes_of({"threshold": [1]}, {"block_length": [4]}) == axes([1], [4])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"warmth": [3]}, "'warmth' cannot be swept; these can: threshold, block_length"),
        ({"threshold": [0.5]}, "threshold has two lists of values"),
        ({"block_length": [8, "9"]}, "every block_length of a sweep must be int"),
        ({"block_length": [True]}, "every block_length of a sweep must be int"),
        ({"block_length": [8.0]}, "every block_length of a sweep must be int"),
    ],
)
def test_axes_of_a_program_that_cannot_be_read(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        axes_of({"threshold": [0.9]}, given)


def test_programs_get_every_option_by_its_name() -> None:
    length = Point((("block_length", 8),), error="no")
    told = as_json(Progress((length, *ONE), 2, ""), "diffusion", "Left out: x.")
    assert list(told["points"][0])[:3] == ["threshold", "block_length", "tokens_per_second"]
    assert (told["points"][0]["threshold"], told["points"][0]["block_length"]) == (None, 8)
    assert (told["best"]["threshold"], told["best"]["block_length"]) == (0.9, 8)
    assert "options" not in told["best"]
    assert told["left_out"] == "Left out: x."


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
