"""Which threshold and block length are worth having: one question answered once per combination,
each answer held against that of the autoregressive mode.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from vlm_dlm.decoding import find_mode
from vlm_dlm.engine.base import ModeInfo
from vlm_dlm.errors import ModeError
from vlm_dlm.events import Started, Stats
from vlm_dlm.preflight import mode_params
from vlm_dlm.request import REFERENCE_MODE
from vlm_dlm_app.answering.compare_run import judge_of
from vlm_dlm_app.answering.intake import Ask, over_limit
from vlm_dlm_app.answering.modes import offered_modes
from vlm_dlm_app.answering.start import start_comparison
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.runs import Visitor
from vlm_dlm_app.page.speeds import speed_of
from vlm_dlm_app.schemas.compare import Agreement
from vlm_dlm_app.state import Services

AXES = ("threshold", "block_length")
MAX_POINTS = 64
# Under this much agreement a fast answer is simply another answer.
LEAST_AGREEMENT = 0.9


@dataclass(frozen=True, slots=True)
class Point:
    """One combination and what came of it. threshold, block_length: None where the mode has no
    such option. tokens_per_second: None also of an answer that is too short to measure. agreement:
    share of leading tokens equal to those of the reference. error: a sentence, in place of
    figures."""

    threshold: float | None
    block_length: int | None
    tokens_per_second: float | None = None
    tokens_per_forward: float | None = None
    num_tokens: int | None = None
    agreement: float | None = None
    is_identical: bool | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """As in 'threshold 0.9, block 32'."""
        parts = {"threshold": self.threshold, "block": self.block_length}
        return ", ".join(f"{key} {value:g}" for key, value in parts.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is. doing: what is being written now, '' at the end. reference: tokens per
    second of the mode that the answers are held against, None until it is done, or where its answer
    is too short to measure."""

    points: tuple[Point, ...]
    num_points: int
    doing: str
    reference: float | None = None

    @property
    def best(self) -> Point | None:
        """The fastest of those that agree well enough; if none does, the one that agrees most."""
        return best_of(self.points)


def best_of(points: Sequence[Point], least: float = LEAST_AGREEMENT) -> Point | None:
    """See `Progress.best`. None without a whole answer."""
    whole = [point for point in points if point.agreement is not None]
    good = [point for point in whole if (point.agreement or 0.0) >= least]
    if good:
        return max(good, key=lambda point: point.tokens_per_second or 0.0)
    return max(whole, key=_merit, default=None)


def _merit(point: Point) -> tuple[float, float]:
    return point.agreement or 0.0, point.tokens_per_second or 0.0


def sweepable(services: Services) -> list[ModeInfo]:
    """Modes that have something to sweep."""
    return [info for info in services.engine.capabilities.modes if set(info.options) & set(AXES)]


def possible_lengths(info: ModeInfo, block_lengths: Sequence[int]) -> list[int]:
    """Those that the mode can do, in order. Where it can do none, all: one will be refused with
    the mode's own words. Without the option it minds none."""
    if AXES[1] not in info.options:
        return list(block_lengths)
    found = [length for length in block_lengths if _can_do(info.name, length)]
    return found or list(block_lengths)


def _can_do(mode: str, block_length: int) -> bool:
    try:
        mode_params([mode], {AXES[1]: block_length})
    except ModeError:
        return False
    return True


def left_out(services: Services, mode: str, block_lengths: Sequence[int]) -> str:
    """Which block lengths a sweep of the mode goes without, as a sentence; "" for none."""
    info = next((i for i in sweepable(services) if i.name == mode), None)
    if info is None:
        return ""
    kept = possible_lengths(info, block_lengths)
    lost = [f"{length}" for length in dict.fromkeys(block_lengths) if length not in kept]
    return f"Left out: block {', '.join(lost)}, which {info.title} cannot do." if lost else ""


def grid_of(
    services: Services, mode: str, thresholds: Sequence[float], block_lengths: Sequence[int]
) -> dict[Point, Any]:
    """Checked Params by combination. Left out are an axis that the mode lacks, and block lengths
    that it cannot do beside others that it can.

    Raises ApiError or ModeError.
    """
    name = find_mode(mode, offered_modes(services)).name
    info = next((i for i in sweepable(services) if i.name == name), None)
    if info is None:
        names = ", ".join(i.name for i in sweepable(services))
        raise ModeError(f"mode {mode} has nothing to sweep; those that have are {names}")
    given: dict[str, Sequence[Any]] = {"threshold": thresholds}
    given["block_length"] = possible_lengths(info, block_lengths)
    axes = [tuple(dict.fromkeys(given[axis])) if axis in info.options else (None,) for axis in AXES]
    if not all(axes):
        raise ApiError("bad_input", "choose at least one threshold and one block length")
    num_points = len(axes[0]) * len(axes[1])
    if num_points > MAX_POINTS:
        raise over_limit("the sweep", f"has {num_points} combinations", MAX_POINTS)
    grid: dict[Point, Any] = {}
    for values in product(*axes):
        options = {name: v for name, v in zip(AXES, values, strict=True) if v is not None}
        grid[Point(*values)] = mode_params([info.name], options)[info.name]
    return grid


async def sweep(
    services: Services, visitor: Visitor, ask: Ask, mode: str, grid: dict[Point, Any]
) -> AsyncGenerator[Progress]:
    """Runs the reference, then every combination; closing it ends what runs.

    Raises ApiError or VlmDlmError; a combination that fails is a point of its own.
    """
    yield Progress((), len(grid), "preparing the image")
    by_label = {str(index): point for index, point in enumerate(grid)}
    entries = {label: (find_mode(mode).name, grid[point]) for label, point in by_label.items()}
    defaults = mode_params([REFERENCE_MODE], {})
    entries = {mode: (mode, params) for mode, params in defaults.items()} | entries
    comparison = await start_comparison(services, ask, entries, visitor.client, visitor.request_id)
    judge = judge_of(services, comparison)
    points: list[Point] = []
    speed: float | None = None
    async with aclosing(comparison.steps()) as steps:
        async for step in steps:
            label = step.mode
            if step.is_last:
                run = comparison.runs[label]
                if label != REFERENCE_MODE:
                    points.append(_done(by_label[label], run.answer.stats, judge.agreement(label)))
                elif run.error is not None:
                    raise run.error
                elif run.answer.stats is not None:
                    speed = _speed(run.answer.stats)
            if step.is_last or isinstance(step.event, Started):
                doing = "" if len(points) == len(grid) else _doing(label, by_label)
                yield Progress(tuple(points), len(grid), doing, speed)


def _doing(label: str, by_label: dict[str, Point]) -> str:
    return by_label[label].name if label in by_label else "the answer to compare with"


def _speed(stats: Stats) -> float | None:
    return speed_of(stats.num_tokens, stats.tokens_per_s)


def _done(point: Point, stats: Stats | None, agreement: Agreement | None) -> Point:
    axes = point.threshold, point.block_length
    if stats is None or agreement is None:
        return Point(*axes, error="this combination could not be run to its end")
    return Point(
        *axes,
        tokens_per_second=None if (speed := _speed(stats)) is None else round(speed, 3),
        tokens_per_forward=round(stats.tokens_per_forward, 3),
        num_tokens=stats.num_tokens,
        agreement=agreement.share,
        is_identical=agreement.is_identical,
    )


def as_json(progress: Progress, mode: str) -> dict[str, Any]:
    """The whole sweep for a program."""
    best = progress.best
    return {
        "mode": mode,
        "reference": {"mode": REFERENCE_MODE, "tokens_per_second": progress.reference},
        "least_agreement": LEAST_AGREEMENT,
        "points": [asdict(point) for point in progress.points],
        "best": None if best is None else asdict(best),
    }
