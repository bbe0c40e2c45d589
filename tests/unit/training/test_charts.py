"""Sampled bar charts and the facts about them."""

import numpy as np
import pytest

from vlm_dlm.scenes.charts import chart_facts, extreme_colour, sample_chart_scene, value_box
from vlm_dlm.scenes.scenes import Bar, Chart

PLOT = (10.0, 10.0, 190.0, 190.0)


def _chart(*bars: tuple[str, int]) -> Chart:
    return Chart(tuple(Bar(name, value, PLOT) for name, value in bars), PLOT, 10.0, 10.0)


def test_bars_are_proportional_and_inside() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        width, height = (int(side) for side in rng.integers(140, 448, 2))
        scene = sample_chart_scene(rng, width, height)
        assert scene.chart is not None
        bars = scene.chart.bars
        assert 2 <= len(bars) <= 5
        assert len({bar.colour for bar in bars}) == len(bars)
        per_unit = [(bar.box[3] - bar.box[1]) / bar.value for bar in bars]
        assert per_unit == pytest.approx([per_unit[0]] * len(bars))
        for bar in bars:
            assert 0 <= bar.box[0] < bar.box[2] <= width
            assert bar.box[3] <= height
            assert value_box(bar, scene.chart.cap_height)[1] >= scene.chart.title_box[3]


def test_extreme_colour_is_empty_on_a_tie() -> None:
    chart = _chart(("red", 4), ("blue", 7), ("green", 4))
    assert extreme_colour(chart.bars, max) == "blue"
    assert extreme_colour(chart.bars, min) == ""


def test_facts_of_a_chart() -> None:
    facts = list(chart_facts(_chart(("red", 4), ("blue", 7))))
    assert ("num_bars", "two", {}) in facts
    assert ("tallest", "the blue bar", {}) in facts
    assert ("value_of", "4", {"colour": "red"}) in facts
    assert ("taller", "no", {"colour": "red", "other": "blue"}) in facts
    assert ("taller", "yes", {"colour": "blue", "other": "red"}) in facts
