"""Dense labels: what lies in every cell of the image-token grid.

A cell is one image token, 28 x 28 pixels after the image is resized to a multiple of 28. The
labels train the vision tower before any text is involved.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from vlm_dlm.scenes.charts import value_box
from vlm_dlm.scenes.scenes import (
    BACKGROUNDS,
    COLOURS,
    MIN_OBJECT_PX,
    PLACES,
    SHAPES,
    SIZES,
    WORDS,
    Box,
    Chart,
    Scene,
    SceneObject,
)
from vlm_dlm.scenes.shapes import shape_points

CELL_PX = 28
IGNORE = -100
_WORD_CLASS, _NUMBER_CLASS = len(SHAPES) + 1, len(SHAPES) + 2
_NO_TENS = 11  # class of a one-digit number's missing tens
_MIN_COVERAGE = 0.12  # of a cell, to count as covered
_MIN_SHARE = 0.35  # of the object's best cell; small objects may cover no cell well
_TOUCHED = 0.004  # less coverage than this is background
_NUM_EXTENTS, _EXTENT_RATIO = 20, 1.16  # bins of a shape's diameter, from MIN_OBJECT_PX up
_MAX_CELLS = 16  # of the shorter side; larger grids share the last class
_MASK_PX = 8  # resolution of a cell in coverage masks

# Number of classes of each label; 0 is always "none". See `dense_labels`.
LABEL_SIZES: dict[str, int] = {
    "shape": len(SHAPES) + 3,
    "colour": len(COLOURS) + 1,
    "size": len(SIZES) + 1,
    "extent": _NUM_EXTENTS + 1,
    "text": len(WORDS) + 2,
    "tens": 12,
    "ones": 11,
    "place": len(PLACES) + 1,
    "bar_colour": len(COLOURS) + 1,
    "bar_value": 10,
    "num_bars": 6,
    "is_chart": 2,
    "background": len(BACKGROUNDS),
    "short_side": _MAX_CELLS,
}


def grid_of(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of image tokens for an image of that size."""
    return (height - 1) // CELL_PX + 1, (width - 1) // CELL_PX + 1


def dense_labels(scene: Scene, num_cells: tuple[int, int]) -> dict[str, np.ndarray]:
    """Labels of every cell, int64 [h, w] each, in the classes of `LABEL_SIZES`.

    0 means none and `IGNORE` marks cells an object only touches. `shape` has two more classes for
    words and numbers. `size` is relative to the image; `extent` bins the diameter in pixels, which
    is what a tower without absolute positions can see; `short_side`, the cells of the image's
    shorter side, tells what it is relative to. `text` is the word, or the last class for a number,
    whose digits are in `tens` and `ones` (digit + 1). `num_bars`, `is_chart`, `background` and
    `short_side` hold the same value in every cell; the last two have no "none".
    """
    labels = {name: np.zeros(num_cells, np.int64) for name in LABEL_SIZES}
    labels["background"][:] = BACKGROUNDS.index(scene.background)
    labels["short_side"][:] = min(min(num_cells), _MAX_CELLS) - 1
    names = ("shape", "colour", "size", "extent", "text", "tens", "ones", "place")
    scale = CELL_PX * math.sqrt(num_cells[0] * num_cells[1] / (scene.width * scene.height))
    parts = [
        (_object_coverage(item, scene, num_cells), _object_classes(item, scale))
        for item in scene.objects
    ]
    _assign(labels, names, parts)
    if scene.chart is not None:
        labels["is_chart"][:] = 1
        labels["num_bars"][:] = len(scene.chart.bars)
        _assign_chart(labels, scene, scene.chart, num_cells)
    return labels


def _assign(
    labels: dict[str, np.ndarray],
    names: tuple[str, ...],
    parts: list[tuple[np.ndarray, dict[str, int]]],
) -> None:
    """Write each part's classes where it is the one that covers the cell most.

    Args:
        labels: changed in place; int64 [h, w] each.
        names: labels to write.
        parts: coverage float [h, w] and classes of each part; labels not named there are 0.
    """
    if not parts:
        return
    coverage = np.stack([cover for cover, _ in parts])  # [parts, h, w]
    owner = coverage.argmax(0)
    most = coverage.max(0)
    needed = np.minimum(_MIN_COVERAGE, _MIN_SHARE * coverage.max((1, 2)))
    is_covered = most >= needed[owner]
    is_touched = (most > _TOUCHED) & ~is_covered
    for name in names:
        classes = np.array([values.get(name, 0) for _, values in parts], np.int64)
        labels[name][is_covered] = classes[owner][is_covered]
        labels[name][is_touched] = IGNORE


def _assign_chart(
    labels: dict[str, np.ndarray], scene: Scene, chart: Chart, num_cells: tuple[int, int]
) -> None:
    """Bars own their column from the printed value down to the axis."""
    parts = []
    for bar in chart.bars:
        value = value_box(bar, chart.cap_height)
        cover = _box_coverage(bar.box, scene, num_cells) + _box_coverage(value, scene, num_cells)
        classes = {"bar_colour": COLOURS.index(bar.colour) + 1, "bar_value": bar.value}
        parts.append((cover, classes))
    _assign(labels, ("bar_colour", "bar_value"), parts)
    if chart.title:
        cover = _box_coverage(chart.title_box, scene, num_cells)
        classes = {"shape": _WORD_CLASS, "text": WORDS.index(chart.title) + 1}
        _assign(labels, ("shape", "text"), [(cover, classes)])
        labels["colour"][cover > _TOUCHED] = IGNORE


def _object_classes(item: SceneObject, scale: float) -> dict[str, int]:
    """`scale`: pixels of the token grid per pixel of the scene."""
    classes = {"colour": COLOURS.index(item.colour) + 1, "place": item.place + 1}
    if item.kind == "shape":
        return classes | {
            "shape": SHAPES.index(item.what) + 1,
            "size": SIZES.index(item.size) + 1,
            "extent": _extent_class(scale * (item.box[2] - item.box[0])),
        }
    if item.kind == "word":
        return classes | {"shape": _WORD_CLASS, "text": WORDS.index(item.what) + 1}
    tens = int(item.what[0]) + 1 if len(item.what) == 2 else _NO_TENS
    return classes | {
        "shape": _NUMBER_CLASS,
        "text": len(WORDS) + 1,
        "tens": tens,
        "ones": int(item.what[-1]) + 1,
    }


def _extent_class(diameter: float) -> int:
    bin_ = int(math.log(max(1.0, diameter / MIN_OBJECT_PX)) / math.log(_EXTENT_RATIO))
    return 1 + min(bin_, _NUM_EXTENTS - 1)


def _object_coverage(item: SceneObject, scene: Scene, num_cells: tuple[int, int]) -> np.ndarray:
    """Share of each cell that the object covers, float [h, w]; a ring counts as a disc."""
    if item.kind != "shape":
        return _box_coverage(item.box, scene, num_cells)
    rows, columns = num_cells
    x, y = columns * _MASK_PX / scene.width, rows * _MASK_PX / scene.height
    left, top, right, bottom = item.box
    mask = Image.new("L", (columns * _MASK_PX, rows * _MASK_PX))
    draw = ImageDraw.Draw(mask)
    if item.what in ("circle", "ring"):
        # Pillow includes the last pixel.
        draw.ellipse([left * x, top * y, right * x - 1, bottom * y - 1], fill=1)
    else:
        cx, cy, extent = (left + right) / 2, (top + bottom) / 2, right - left
        points = _plain_points(item.what)
        draw.polygon([((cx + extent * u) * x, (cy + extent * v) * y) for u, v in points], fill=1)
    cells = np.asarray(mask).reshape(rows, _MASK_PX, columns, _MASK_PX)
    return cells.mean((1, 3))  # [h, w]


@lru_cache(maxsize=16)
def _plain_points(shape: str) -> tuple[tuple[float, float], ...]:
    return tuple(shape_points(shape))


def _box_coverage(box: Box, scene: Scene, num_cells: tuple[int, int]) -> np.ndarray:
    """Share of each cell inside `box`, float [h, w]."""
    rows, columns = num_cells
    x, y = columns / scene.width, rows / scene.height
    across = _interval_coverage(box[0] * x, box[2] * x, columns)  # [w]
    down = _interval_coverage(box[1] * y, box[3] * y, rows)  # [h]
    return down[:, None] * across


def _interval_coverage(low: float, high: float, num_cells: int) -> np.ndarray:
    edges = np.arange(num_cells)
    return np.clip(np.minimum(high, edges + 1) - np.maximum(low, edges), 0, 1)
