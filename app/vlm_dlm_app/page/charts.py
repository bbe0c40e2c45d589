"""Figures of a finished comparison as small tables for Gradio's native plots.

The record comes from the visitor's own page and goes back to nobody else, yet it is read as any
foreign JSON: what has not the right form is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from statistics import median
from typing import Any, cast

from pandas import DataFrame  # pyright: ignore[reportMissingTypeStubs]

from vlm_dlm_app.schemas.compare import MAX_MODES

MAX_POINTS = 400  # of one line
LINE_COLUMNS = ("milliseconds", "tokens", "mode")
BAR_COLUMNS = ("mode", "value")


def tokens_over_time(record: object) -> DataFrame:
    """One row per mode and moment: how many tokens were final by then."""
    rows = [
        (moment, count, title)
        for title, answer in _answers(record)
        for moment, count in _points(answer)
    ]
    return DataFrame(rows, columns=list(LINE_COLUMNS))


def bars(record: object, figure: str) -> DataFrame:
    """One row per mode: the median of this figure over all runs."""
    names = _mapping(_mapping(record).get("answers"))
    titles = {name: _title(name, answer) for name, answer in names.items()}
    runs = [_mapping(run) for run in _list(_mapping(record).get("runs"))]
    rows: list[tuple[str, float]] = []
    for name, title in list(titles.items())[:MAX_MODES]:
        values = [_number(_mapping(run.get(name)).get(figure)) for run in runs]
        known = [value for value in values if value is not None]
        if known:
            rows.append((title, median(known)))
    return DataFrame(rows, columns=list(BAR_COLUMNS))


def _answers(record: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    answers = _mapping(_mapping(record).get("answers"))
    for name, answer in list(answers.items())[:MAX_MODES]:
        yield _title(name, answer), _mapping(answer)


def _points(answer: Mapping[str, Any]) -> list[tuple[float, float]]:
    """From nothing at the start; many points are thinned out, the last one stays."""
    points = [(0.0, 0.0)]
    for point in _list(answer.get("points")):
        pair = [_number(value) for value in _list(point)]
        if len(pair) == 2 and pair[0] is not None and pair[1] is not None:
            # Tokens come all at once, not bit by bit: a stair, not a slope.
            points += [(pair[0], points[-1][1]), (pair[0], pair[1])]
    if len(points) == 1:
        return []
    stride = -(-len(points) // MAX_POINTS)
    return points[::stride] if stride == 1 else [*points[::stride], points[-1]]


def _title(name: str, answer: object) -> str:
    title = _mapping(answer).get("title")
    return title[:80] if isinstance(title, str) and title else name[:80]


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None
