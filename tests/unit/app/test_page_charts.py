"""Figures of a comparison as tables for the plots, also where the page sends nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_dlm_app.page.charts import MAX_POINTS, bars, tokens_over_time


def record(**answers: Any) -> dict[str, Any]:
    return {"answers": answers, "runs": []}


def test_tokens_over_time_are_a_stair_from_zero() -> None:
    frame = tokens_over_time(record(ar={"title": "AR", "points": [[5.0, 1], [9.0, 4]]}))
    assert frame.to_numpy().tolist() == [
        [0.0, 0.0, "AR"],
        [5.0, 0.0, "AR"],
        [5.0, 1.0, "AR"],
        [9.0, 1.0, "AR"],
        [9.0, 4.0, "AR"],
    ]


def test_many_points_are_thinned_and_the_last_stays() -> None:
    points = [[float(i), i] for i in range(1, 5001)]
    frame = tokens_over_time(record(ar={"title": "AR", "points": points}))
    assert len(frame) <= MAX_POINTS + 1
    assert frame.iloc[-1].tolist() == [5000.0, 5000.0, "AR"]


def test_bars_are_medians_over_runs() -> None:
    runs = [{"ar": {"tokens_per_second": value}} for value in (1.0, 9.0, 2.0, 4.0)]
    frame = bars({"answers": {"ar": {"title": "AR"}}, "runs": runs}, "tokens_per_second")
    assert frame.to_numpy().tolist() == [["AR", 3.0]]


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        "done",
        [],
        {"answers": 3, "runs": "x"},
        {"answers": {"ar": None}, "runs": [None, {"ar": 7}]},
        {"answers": {"ar": {"title": 5, "points": [1, [2], ["a", "b"], [float("nan"), 1]]}}},
        {"answers": {"ar": {}}, "runs": [{"ar": {"tokens_per_second": True}}]},
    ],
)
def test_nonsense_makes_empty_plots(nonsense: object) -> None:
    assert tokens_over_time(nonsense).empty
    assert bars(nonsense, "tokens_per_second").empty
