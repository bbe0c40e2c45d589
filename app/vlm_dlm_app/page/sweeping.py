"""Which values of a mode's options are worth having: one question answered once per combination,
each answer held against that of the autoregressive mode.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod
from typing import Any

from vlm_dlm.decoding import find_mode
from vlm_dlm.engine.base import ModeInfo
from vlm_dlm.errors import ModeError
from vlm_dlm.events import Started, Stats
from vlm_dlm.preflight import mode_params
from vlm_dlm.request import REFERENCE_MODE
from vlm_dlm_app.answering.compare_run import judge_of
from vlm_dlm_app.answering.intake import Ask, over_limit
from vlm_dlm_app.answering.modes import offered_names
from vlm_dlm_app.answering.start import start_comparison
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.options import PAGE_OPTIONS, PageOption, options_of
from vlm_dlm_app.page.runs import Visitor
from vlm_dlm_app.page.speeds import speed_of
from vlm_dlm_app.schemas.compare import Agreement
from vlm_dlm_app.state import Services

MAX_POINTS = 64
# Under this much agreement a fast answer is simply another answer.
LEAST_AGREEMENT = 0.9


@dataclass(frozen=True, slots=True)
class Point:
    """One combination and what came of it.

    options: (name, value) in the order of PAGE_OPTIONS, of those that the mode has.
    tokens_per_second: None also of an answer that is too short to measure.
    agreement: share of leading tokens equal to those of the reference.
    error: a sentence, in place of figures.
    """

    options: tuple[tuple[str, Any], ...]
    tokens_per_second: float | None = None
    tokens_per_forward: float | None = None
    num_tokens: int | None = None
    agreement: float | None = None
    is_identical: bool | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """As in 'threshold 0.9, block 32'."""
        return ", ".join(
            f"{option.short} {option.words(self.value_of(option))}"
            for option in options_of([name for name, _ in self.options])
        )

    def value_of(self, option: PageOption) -> Any:
        """Its value; None where the mode has no such option."""
        return dict(self.options).get(option.name)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is.

    doing: what is being written now, '' at the end.
    reference: tokens per second of the mode that the answers are held against, None until it is
        done, or where its answer is too short to measure.
    """

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
    return [info for info in services.engine.capabilities.modes if options_of(info.options)]


def possible_values(mode: str, option: PageOption, values: Sequence[Any]) -> list[Any]:
    """Those that the mode can do, in order. Where it can do none, all: one will be refused with
    the mode's own words."""
    found = [value for value in values if _can_do(mode, option.name, value)]
    return found or list(values)


def _can_do(mode: str, name: str, value: Any) -> bool:
    try:
        mode_params([mode], {name: value})
    except ModeError:
        return False
    return True


def axes_of(*several: Mapping[str, Sequence[Any] | None]) -> dict[str, Sequence[Any]]:
    """Values by the engine's names, from some by the names of requests; an option that has none
    there has its usual ones. Raises ApiError."""
    found: dict[str, Sequence[Any]] = {}
    for field, values in (item for given in several for item in given.items()):
        if values and field in found:
            raise ApiError("bad_input", f"{field} has two lists of values; give one")
        if values:
            found[field] = values
    for field in found.keys() - {option.field for option in PAGE_OPTIONS}:
        there_are = ", ".join(option.field for option in PAGE_OPTIONS)
        raise ApiError("bad_input", f"{field[:100]!r} cannot be swept; these can: {there_are}")
    axes = {option.name: found.get(option.field, option.sweep_first) for option in PAGE_OPTIONS}
    for option in PAGE_OPTIONS:
        if not all(option.is_value(value) for value in axes[option.name]):
            kind = option.kind.__name__
            raise ApiError("bad_input", f"every {option.field} of a sweep must be {kind}")
    return axes


def left_out(services: Services, mode: str, values: Mapping[str, Sequence[Any]]) -> str:
    """Which values a sweep of the mode goes without, as a sentence; "" for none."""
    info = next((i for i in sweepable(services) if i.name == mode), None)
    if info is None:
        return ""
    parts: list[str] = []
    for option in options_of(info.options):
        given = values.get(option.name, ())
        kept = possible_values(mode, option, given)
        lost = [option.words(value) for value in dict.fromkeys(given) if value not in kept]
        parts += [f"{option.short} {', '.join(lost)}"] if lost else []
    return f"Left out: {'; '.join(parts)}, which {info.title} cannot do." if parts else ""


def grid_of(services: Services, mode: str, values: Mapping[str, Sequence[Any]]) -> dict[Point, Any]:
    """Checked Params by combination. values: by option, by the engine's names. Left out are options
    that the mode lacks, and values that it cannot do beside others that it can.

    Raises ApiError or ModeError.
    """
    name = find_mode(mode, offered_names(services)).name
    info = next((i for i in sweepable(services) if i.name == name), None)
    if info is None:
        names = ", ".join(i.name for i in sweepable(services))
        raise ModeError(f"mode {mode} has nothing to sweep; those that have are {names}")
    own = options_of(info.options)
    given = ((option, values.get(option.name, ())) for option in own)
    axes = [dict.fromkeys(possible_values(name, option, some)) for option, some in given]
    if not all(axes):
        wanted = " and one ".join(option.label.lower() for option in own)
        raise ApiError("bad_input", f"choose at least one {wanted}")
    num_points = prod(len(axis) for axis in axes)
    if num_points > MAX_POINTS:
        raise over_limit("the sweep", f"has {num_points} combinations", MAX_POINTS)
    grid: dict[Point, Any] = {}
    for combination in product(*axes):
        options = dict(zip((option.name for option in own), combination, strict=True))
        grid[Point(tuple(options.items()))] = mode_params([name], options)[name]
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
    if stats is None or agreement is None:
        return replace(point, error="this combination could not be run to its end")
    return replace(
        point,
        tokens_per_second=None if (speed := _speed(stats)) is None else round(speed, 3),
        tokens_per_forward=round(stats.tokens_per_forward, 3),
        num_tokens=stats.num_tokens,
        agreement=agreement.share,
        is_identical=agreement.is_identical,
    )


def as_json(progress: Progress, mode: str, note: str = "") -> dict[str, Any]:
    """The whole sweep for a program. note: what was left out."""
    best = progress.best
    return {
        "mode": mode,
        "reference": {"mode": REFERENCE_MODE, "tokens_per_second": progress.reference},
        "least_agreement": LEAST_AGREEMENT,
        "points": [_point_json(point) for point in progress.points],
        "best": None if best is None else _point_json(best),
        "left_out": note,
    }


def _point_json(point: Point) -> dict[str, Any]:
    """Options by the names of requests, null where the mode lacks one."""
    figures = asdict(point)
    del figures["options"]
    return {option.field: point.value_of(option) for option in PAGE_OPTIONS} | figures
