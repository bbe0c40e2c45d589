"""Geometry of sampled scenes."""

import numpy as np
import pytest

from vlm_dlm.scenes.scenes import (
    BACKGROUND_CLASHES,
    MIN_CAP_PX,
    MIN_OBJECT_PX,
    SHAPES,
    SceneObject,
    sample_canvas,
    sample_object_scene,
)
from vlm_dlm.scenes.shapes import shape_points

SIZE_BANDS = {"small": (0.1, 0.16), "medium": (0.21, 0.29), "large": (0.36, 0.48)}


def _object_scenes():
    for index in range(150):
        rng = np.random.default_rng(index)
        yield sample_object_scene(rng, *sample_canvas(rng))


def _separated(one: SceneObject, two: SceneObject) -> bool:
    return (
        one.box[2] <= two.box[0]
        or two.box[2] <= one.box[0]
        or one.box[3] <= two.box[1]
        or two.box[3] <= one.box[1]
    )


def test_canvas_sides_and_aspect_are_within_limits() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([sample_canvas(rng, 448) for _ in range(500)])
    assert sizes.min() >= 56
    assert sizes.max() <= 448
    assert (sizes.max(1) / sizes.min(1)).max() <= 2.02
    assert 0.2 < (sizes[:, 0] == sizes[:, 1]).mean() < 0.6


def test_objects_lie_inside_the_canvas_and_their_place() -> None:
    for scene in _object_scenes():
        assert 1 <= len(scene.objects) <= 5
        for item in scene.objects:
            left, top, right, bottom = item.box
            assert left >= 0
            assert top >= 0
            assert right <= scene.width
            assert bottom <= scene.height
            column, row = item.place % 3, item.place // 3
            assert column <= (left + right) / 2 / scene.width * 3 <= column + 1
            assert row <= (top + bottom) / 2 / scene.height * 3 <= row + 1


def test_objects_are_separated_and_in_raster_order() -> None:
    for scene in _object_scenes():
        places = [item.place for item in scene.objects]
        assert places == sorted(set(places))
        for index, item in enumerate(scene.objects):
            assert all(_separated(item, other) for other in scene.objects[:index])


def test_objects_are_visible_and_match_their_size_name() -> None:
    for scene in _object_scenes():
        for item in scene.objects:
            assert item.colour not in BACKGROUND_CLASHES[scene.background]
            height = item.box[3] - item.box[1]
            if item.kind == "shape":
                low, high = SIZE_BANDS[item.size]
                assert height >= MIN_OBJECT_PX - 1e-6
                assert low - 1e-6 <= height / min(scene.width, scene.height) <= high + 1e-6
            else:
                assert height >= MIN_CAP_PX - 1e-6


@pytest.mark.parametrize("shape", [name for name in SHAPES if name not in ("circle", "ring")])
def test_shape_fits_the_unit_square(shape: str) -> None:
    for seed in range(10):
        points = np.array(shape_points(shape, np.random.default_rng(seed)))
        extent = points.max(0) - points.min(0)
        assert extent.max() == pytest.approx(1.0)
        assert extent.min() > 0.6
        assert np.abs(points).max() <= 0.5 + 1e-9
