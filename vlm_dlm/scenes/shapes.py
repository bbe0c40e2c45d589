"""Outlines of the shapes that scenes hold, as polygons. Circles and rings have none."""

from __future__ import annotations

import math

import numpy as np

Points = list[tuple[float, float]]


def shape_points(shape: str, rng: np.random.Generator | None = None) -> Points:
    """Polygon of a shape within the unit square centred at 0; plain look without `rng`."""
    turn, vary = 0.0, 0.5
    if rng is not None:
        vary = float(rng.random())
        turn = math.radians(rng.uniform(-12, 12)) if rng.random() < 0.25 else 0.0
    if shape == "square":
        points = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    elif shape == "diamond":
        narrow, turn = 0.75 + 0.5 * min(vary, 0.5), turn * 0.4
        points = [(0.0, -1.0), (narrow, 0.0), (0.0, 1.0), (-narrow, 0.0)]
    elif shape == "triangle":
        points = [(0.0, -0.8 - 0.25 * vary), (1.0, 0.8), (-1.0, 0.8)]
    elif shape == "star":
        points = _star(0.36 + 0.14 * vary)
    else:
        points = _cross(0.26 + 0.16 * vary)
    return _normalised(points, turn)


def _star(inner: float) -> Points:
    radii = (1.0, inner) * 5
    angles = [math.pi * step / 5 for step in range(10)]
    pairs = zip(radii, angles, strict=True)
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for radius, angle in pairs]


def _cross(arm: float) -> Points:
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    points: Points = []
    for _ in range(4):
        points += quarter
        quarter = [(-y, x) for x, y in quarter]
    return points


def _normalised(points: Points, turn: float) -> Points:
    """Rotated, centred, and scaled so that the longer side of the bounding box is 1."""
    cos, sin = math.cos(turn), math.sin(turn)
    turned = [(x * cos - y * sin, x * sin + y * cos) for x, y in points]
    xs, ys = [x for x, _ in turned], [y for _, y in turned]
    scale = 1.0 / max(max(xs) - min(xs), max(ys) - min(ys))
    x0, y0 = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return [((x - x0) * scale, (y - y0) * scale) for x, y in turned]
