"""What a procedural image shows: objects or bars with their geometry.

Owns the vocabulary (shapes, colours, places, words) and the geometry of objects; `charts` samples
the bars. Knows no pixels, fonts or sentences: captions and labels are functions of a `Scene`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring")
SIZES = ("small", "medium", "large")
PLACES = (
    "at the top left",
    "at the top",
    "at the top right",
    "on the left",
    "in the center",
    "on the right",
    "at the bottom left",
    "at the bottom",
    "at the bottom right",
)
_COLOUR_LIST = "red green blue yellow orange purple pink brown black white gray cyan"
_WORD_LIST = (
    "STOP GO CAT DOG SUN MOON HELLO OPEN EXIT SALE LOVE HOME FISH BIRD TREE YES NO ON OFF CAFE "
    "TAXI BUS CAR MILK TEA BOOK GAME PLAY HELP INFO NEWS FREE COLD HOT KEY MAP UP FIRE RAIN SNOW"
)
NUMBER_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = tuple(_COLOUR_LIST.split())
WORDS = tuple(_WORD_LIST.split())

# Object colours that would be hard to see on, or to tell from, each background.
BACKGROUND_CLASHES: dict[str, frozenset[str]] = {
    "white": frozenset({"white"}),
    "black": frozenset({"black"}),
    "gray": frozenset({"gray", "white"}),
    "light blue": frozenset({"white", "cyan"}),
    "light yellow": frozenset({"white", "yellow"}),
    "light green": frozenset({"white"}),
    "pink": frozenset({"white", "pink"}),
    "dark blue": frozenset({"blue", "black", "purple", "brown"}),
    "blue": frozenset({"blue", "purple", "cyan", "gray"}),
    "green": frozenset({"green", "brown", "gray", "black"}),
    "yellow": frozenset({"yellow", "white", "orange"}),
    "red": frozenset({"red", "orange", "brown", "pink", "purple"}),
}
BACKGROUNDS = tuple(BACKGROUND_CLASHES)
_BACKGROUND_WEIGHTS = (0.46, 0.12, 0.09, 0.05, 0.05, 0.04, 0.04, 0.05, 0.03, 0.03, 0.02, 0.02)

# Glyphs are thin: letters need a larger difference in brightness than filled shapes do.
_DARK_INKS = frozenset({"black", "blue", "red", "green", "purple", "brown"})
_LIGHT_INKS = frozenset({"white", "yellow", "cyan", "pink", "orange"})
_TEXT_INKS: dict[str, frozenset[str]] = {
    "white": _DARK_INKS | {"gray", "orange"},
    "black": _LIGHT_INKS | {"red", "green", "gray"},
    "gray": frozenset({"black", "blue", "red", "purple"}),
    "light green": _DARK_INKS - {"green"},
    "dark blue": _LIGHT_INKS | {"green"},
    "blue": frozenset({"white", "yellow"}),
    "green": frozenset({"white", "yellow"}),
    "yellow": frozenset({"black", "blue", "red", "purple"}),
    "red": frozenset({"white", "yellow", "black"}),
}

MIN_SIDE = 56
MIN_OBJECT_PX = 12.0
MIN_CAP_PX, MAX_CAP_PX = 12.0, 30.0  # height of a capital letter
_SIZE_BANDS = {"small": (0.10, 0.16), "medium": (0.21, 0.29), "large": (0.36, 0.48)}
_SHAPE_SHARE, _DENSE_SHAPE_SHARE = 0.78, 0.4  # of objects; the rest are words and numbers
_WORD_SHARE = 0.588  # of texts
_CENTRE_BANDS = ((0.10, 0.26), (0.41, 0.59), (0.74, 0.90))  # per column or row
CAP_ASPECT = 1.0  # width of a capital letter over its height, generous


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One shape, word or number; `what` is the shape's name, the word, or the digits."""

    kind: str  # "shape", "word" or "number"
    what: str
    colour: str
    place: int  # index into PLACES
    box: Box
    size: str = ""  # shapes only


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart with its printed value."""

    colour: str
    value: int
    box: Box


@dataclass(frozen=True, slots=True)
class Chart:
    """A vertical bar chart; `plot` is the box between the axes."""

    bars: tuple[Bar, ...]
    plot: Box
    cap_height: float  # of the printed values, in pixels
    scale_max: float  # value at the top of `plot`
    title: str = ""
    title_box: Box = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything an image shows. Either `objects` or `chart` is set."""

    width: int
    height: int
    background: str
    objects: tuple[SceneObject, ...] = ()
    chart: Chart | None = None


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Uniform choice; much faster than `Generator.choice` for short sequences."""
    return options[int(rng.integers(len(options)))]


def pick_weighted(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float]) -> T:
    """Choice with the given weights, which need not sum to one."""
    threshold = float(rng.random()) * sum(weights)
    for option, weight in zip(options, weights, strict=True):
        threshold -= weight
        if threshold < 0:
            return option
    return options[-1]


def sample_canvas(rng: np.random.Generator, max_side: int = 448) -> tuple[int, int]:
    """Width and height: log-uniform long side, one third squares, else aspect up to 2:1."""
    long_side = round(math.exp(rng.uniform(math.log(MIN_SIDE), math.log(max_side))))
    if rng.random() < 0.35:
        return long_side, long_side
    short_side = max(MIN_SIDE, round(long_side * 2.0 ** -rng.random()))
    return (long_side, short_side) if rng.random() < 0.55 else (short_side, long_side)


def sample_wide_canvas(rng: np.random.Generator, max_side: int = 448) -> tuple[int, int]:
    """Width and height of a banner or a column: 2:1 to 8:1, as far as the shortest side allows."""
    long_side = round(rng.uniform(min(3 * MIN_SIDE, max_side), max_side))
    short_side = max(MIN_SIDE, round(long_side * 2.0 ** -rng.uniform(1.0, 3.0)))
    return (long_side, short_side) if rng.random() < 0.5 else (short_side, long_side)


def sample_object_scene(
    rng: np.random.Generator, width: int, height: int, is_dense: bool = False
) -> Scene:
    """A random scene of one to five objects; dense ones hold as many as fit, and more text."""
    background = pick_weighted(rng, BACKGROUNDS, _BACKGROUND_WEIGHTS)
    wanted = len(PLACES) if is_dense else _num_objects(rng, math.sqrt(width * height))
    shape_share = _DENSE_SHAPE_SHARE if is_dense else _SHAPE_SHARE
    objects: list[SceneObject] = []
    for _ in range(60):
        candidate = _sample_object(rng, width, height, background, objects, shape_share)
        placed = candidate and _place(rng, width, height, candidate, objects)
        if placed:
            objects.append(placed)
        if len(objects) == wanted:
            break
    ordered = tuple(sorted(objects, key=lambda item: item.place))
    return Scene(width, height, background, ordered)


def _num_objects(rng: np.random.Generator, mean_side: float) -> int:
    limit = 1 + sum(mean_side >= bound for bound in (66, 80, 104, 140))
    return int(pick_weighted(rng, range(1, limit + 1), (0.3, 0.8, 1.8, 2.6, 3.2)[:limit]))


def _sample_object(
    rng: np.random.Generator,
    width: int,
    height: int,
    background: str,
    others: list[SceneObject],
    shape_share: float,
) -> SceneObject | None:
    """A random object with its box at the origin, or None if it would be too small."""
    role = rng.random()
    if role < shape_share:
        return _sample_shape(rng, min(width, height), background, others)
    is_word = role < shape_share + _WORD_SHARE * (1 - shape_share)
    what = pick(rng, WORDS) if is_word else str(rng.integers(100))
    if any(what == other.what for other in others):
        return None
    largest = min(MAX_CAP_PX, max(MIN_CAP_PX * 1.2, 0.24 * min(width, height)))
    cap = float(rng.uniform(MIN_CAP_PX, largest))
    kind = "word" if is_word else "number"
    inks = _TEXT_INKS.get(background, _DARK_INKS)
    colour = pick(rng, [colour for colour in COLOURS if colour in inks])
    return SceneObject(kind, what, colour, 0, (0.0, 0.0, cap * CAP_ASPECT * len(what), cap))


def _sample_shape(
    rng: np.random.Generator, short_side: int, background: str, others: list[SceneObject]
) -> SceneObject | None:
    size = pick(rng, SIZES)
    low, high = (bound * short_side for bound in _SIZE_BANDS[size])
    if high < MIN_OBJECT_PX + 0.5:
        return None
    diameter = rng.uniform(max(low, MIN_OBJECT_PX), high)
    shape, colours = pick(rng, SHAPES), visible_colours(background)
    colour = pick(rng, colours)
    shapes = [other for other in others if other.kind == "shape"]
    # Repeated shapes and colours make counting and "is there" questions non-trivial.
    if shapes and rng.random() < 0.22:
        shape = pick(rng, shapes).what
    elif shapes and rng.random() < 0.28:
        colour = pick(rng, shapes).colour
    return SceneObject("shape", shape, colour, 0, (0.0, 0.0, diameter, diameter), size)


def visible_colours(background: str) -> list[str]:
    """Object colours that stand out from the named background."""
    clashes = BACKGROUND_CLASHES[background]
    return [colour for colour in COLOURS if colour not in clashes]


def _place(
    rng: np.random.Generator,
    width: int,
    height: int,
    item: SceneObject,
    others: list[SceneObject],
) -> SceneObject | None:
    """`item` moved to a free place where it overlaps nothing, or None."""
    item_width, item_height = item.box[2], item.box[3]
    gap = max(2.0, 0.02 * min(width, height))
    taken = {other.place for other in others}
    for place in (int(index) for index in rng.permutation(9)[:5]):
        x = _sample_centre(rng, _CENTRE_BANDS[place % 3], width, item_width)
        y = _sample_centre(rng, _CENTRE_BANDS[place // 3], height, item_height)
        if place in taken or x is None or y is None:
            continue
        half_width, half_height = item_width / 2, item_height / 2
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        if not any(_overlaps(box, other.box, gap) for other in others):
            return replace(item, place=place, box=box)
    return None


def _sample_centre(
    rng: np.random.Generator, band: tuple[float, float], length: int, extent: float
) -> float | None:
    low = max(band[0] * length, extent / 2 + 1.5)
    high = min(band[1] * length, length - extent / 2 - 1.5)
    return float(rng.uniform(low, high)) if low <= high else None


def _overlaps(first: Box, second: Box, gap: float) -> bool:
    return (
        first[0] < second[2] + gap
        and second[0] < first[2] + gap
        and first[1] < second[3] + gap
        and second[1] < first[3] + gap
    )
