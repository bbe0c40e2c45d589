"""Colours and pixels of drawn objects."""

import numpy as np
import pytest
from PIL import Image

from vlm_dlm.scenes.draw import (
    BACKGROUND_RGB,
    OBJECT_RGB,
    Style,
    available_fonts,
    draw_object,
    sample_rgb,
    sample_style,
)
from vlm_dlm.scenes.scenes import BACKGROUNDS, COLOURS, SHAPES, SceneObject

PLAIN = Style(1, "none", 0.02, "", False, False)
BOX = (20.0, 30.0, 60.0, 70.0)


def test_every_name_has_values_and_no_value_has_two_names() -> None:
    assert set(OBJECT_RGB) == set(COLOURS)
    assert set(BACKGROUND_RGB) == set(BACKGROUNDS)
    values = [rgb for variants in OBJECT_RGB.values() for rgb in set(variants)]
    assert len(values) == len(set(values))


def test_sampled_colour_stands_out() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        rgb = sample_rgb(rng, "pink", (255, 255, 255), is_text=False)
        assert np.linalg.norm(np.subtract(rgb, 255)) >= 75


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_fills_its_box_and_nothing_else(shape: str) -> None:
    image = Image.new("RGB", (100, 100), "white")
    item = SceneObject("shape", shape, "black", 4, BOX, "large")
    draw_object(image, item, (255, 255, 255), PLAIN, np.random.default_rng(1))
    rows, columns = np.nonzero(np.asarray(image.convert("L")) < 128)
    assert 19 <= columns.min() <= columns.max() <= 61
    assert 29 <= rows.min() <= rows.max() <= 71
    assert max(np.ptp(columns), np.ptp(rows)) >= 37


def test_text_stays_in_its_box_in_every_font() -> None:
    item = SceneObject("word", "HELLO", "black", 4, (20.0, 40.0, 80.0, 52.0))
    for font in available_fonts()[:12]:
        image = Image.new("RGB", (100, 100), "white")
        style = Style(1, "none", 0.02, font, False, False)
        draw_object(image, item, (255, 255, 255), style, np.random.default_rng(0))
        rows, columns = np.nonzero(np.asarray(image.convert("L")) < 128)
        assert 15 <= columns.min() <= columns.max() <= 85
        assert 37 <= rows.min() <= rows.max() <= 55
        assert np.ptp(rows) >= 7


def test_styles_vary_and_are_reproducible() -> None:
    styles = [sample_style(np.random.default_rng(seed)) for seed in range(20)]
    assert styles[3] == sample_style(np.random.default_rng(3))
    assert len({style.outline for style in styles}) > 1
