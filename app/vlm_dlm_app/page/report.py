"""A comparison as one HTML file that needs nothing else: it opens offline, replay included.

Everything of a record is escaped by the template or sits in a block of JSON that no browser runs;
beyond that, the file's own policy lets only its one script run, named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vlm_dlm import __version__
from vlm_dlm.request import REFERENCE_MODE
from vlm_dlm_app.page.assets import script, style
from vlm_dlm_app.page.record import Record, RecordedAnswer, checked_image, read_record
from vlm_dlm_app.page.report_charts import Line, bar_chart, figure, step_chart
from vlm_dlm_app.page.speeds import TOO_SHORT, duration_words, queue_words, speed_of

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("parts", "tokens", "tracks", "steering", "replay", "encoder", "report")
STYLES = ("page", "replay", "report")
FIRST_TOKEN = (
    "from when the mode's request was accepted, so waiting in the queue is in it; image and prompt "
    "are in that of the first mode only"
)
SCREEN_ONLY = frozenset({"include_drafts", "draft_interval_ms"})


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of all modes. help: what it means."""

    name: str
    help: str
    cells: list[str]


def build_report(record: dict[str, Any], image: str | None) -> str:
    """The whole file. image: a data URI, whose metadata the caller has taken out.

    Raises pydantic's ValidationError for a record, ApiError for an image that is not one.
    """
    checked = read_record(record)
    picture = None if image is None else checked_image(image)
    code = script(*SCRIPTS)
    return _template().render(
        record=checked,
        device=_machine(checked),
        version=__version__,
        image=picture,
        rows=_rows(checked),
        charts=_charts(checked),
        settings=_settings(checked),
        style=Markup(style(*STYLES)),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        data=_embedded(checked, picture),
    )


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html")


def _embedded(record: Record, picture: str | None) -> Markup:
    """JSON that cannot end the element it stands in."""
    text = f'{{"record":{record.model_dump_json()},"image":{json.dumps(picture)}}}'
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _machine(record: Record) -> tuple[str, str]:
    """Device and number format, as the first mode that finished says."""
    for _, answer in record.shown:
        if answer.result.metrics is not None:
            return answer.result.metrics.device, answer.result.metrics.dtype
    return "unknown", "unknown"


def _rows(record: Record) -> list[Row]:
    """The figures of all modes, and how far each agrees with `ar`."""
    # Name, what it means, the figure of one run, how to write it. Medians where there are several.
    medians: Sequence[tuple[str, str, str, Callable[[float], str]]] = (
        ("First whole sentence", "readable by then", "time_to_first_sentence_ms", duration_words),
        ("Forwards", "of the model, after the prompt", "num_forwards", _count),
        ("Tokens per forward", "", "tokens_per_forward", figure),
        ("Wasted positions", "computed, not in the answer", "num_wasted_positions", _count),
        ("Image", "0 where an earlier mode left it", "vision_time_ms", duration_words),
        ("Prompt", "0 where an earlier mode left it", "prefill_time_ms", duration_words),
        ("Writing", "", "decode_time_ms", duration_words),
    )
    shown = record.shown
    modes = [mode for mode, _ in shown]
    rows = [
        Row("Tokens per second", _runs_text(record), [_speed(record, mode) for mode in modes]),
        Row("Tokens", "", [str(answer.result.num_tokens) for _, answer in shown]),
        Row("Time to first token", FIRST_TOKEN, [_first_token(record, mode) for mode in modes]),
    ]
    for name, meaning, key, to_text in medians:
        values = [record.median_of(mode, key) for mode in modes]
        rows.append(Row(name, meaning, ["–" if v is None else to_text(v) for v in values]))
    return [*rows, Row("Against AR", "token by token", [_agreement(a) for _, a in shown])]


def _runs_text(record: Record) -> str:
    return f"median of {len(record.runs)} runs, with spread" if len(record.runs) > 1 else "one run"


def _speeds(record: Record, mode: str) -> list[float]:
    """Tokens per second of every run in which the answer is long enough to have a speed."""
    values = record.values_of(mode, "tokens_per_second")
    if len(record.runs) > 1:  # the page leaves out what is too short
        return values
    num_tokens = record.answers[mode].result.num_tokens
    return [value for value in values if speed_of(num_tokens, value) is not None]


def _speed(record: Record, mode: str) -> str:
    """Median and spread of all runs."""
    values = _speeds(record, mode)
    if not values:
        return "–" if record.answers[mode].result.metrics is None else TOO_SHORT
    spread = f" ({figure(min(values))} to {figure(max(values))})" if len(values) > 1 else ""
    return figure(median(values)) + spread


def _first_token(record: Record, mode: str) -> str:
    value = record.median_of(mode, "time_to_first_token_ms")
    if value is None:
        return "–"
    return duration_words(value) + queue_words(record.median_of(mode, "queue_time_ms"))


def _agreement(answer: RecordedAnswer) -> str:
    agreement = answer.result.agreement
    if answer.result.mode == REFERENCE_MODE or agreement is None:
        return "–"
    if agreement.is_identical:
        return "identical"
    found = agreement.first_difference
    at = "" if found is None else f", first difference at token {found.index + 1}"
    margin = None if found is None else found.margin
    apart = "" if margin is None else f" (its two best logits {margin:.3g} apart)"
    return f"{agreement.share:.0%} equal{at}{apart}"


def _charts(record: Record) -> list[tuple[str, Markup]]:
    lines = [Line(answer.title, _points(answer)) for _, answer in record.shown]
    speeds = [
        (answer.title, median(values))
        for mode, answer in record.shown
        if (values := _speeds(record, mode))
    ]
    shares = [
        (answer.title, share)
        for mode, answer in record.shown
        if (share := record.median_of(mode, "tokens_per_forward")) is not None
    ]
    charts = [
        ("Tokens over time", step_chart(lines, "ms since the prompt was ready", "tokens")),
        ("Tokens per second", bar_chart(speeds, "Tokens per second by mode")),
        ("Tokens per forward", bar_chart(shares, "Tokens per forward by mode")),
    ]
    return [(title, chart) for title, chart in charts if chart]


def _points(answer: RecordedAnswer) -> list[tuple[float, float]]:
    """Time and number of tokens at every moment that brought some."""
    ends = {time: index + 1 for index, time in enumerate(answer.times_ms)}
    return [(max(time - answer.began_ms, 0.0), float(end)) for time, end in sorted(ends.items())]


def _settings(record: Record) -> list[tuple[str, str]]:
    shown = {name: value for name, value in record.options.items() if name not in SCREEN_ONLY}
    order = "all at once" if record.parallel else "one after another"
    pairs: Mapping[str, Any] = {**shown, **record.mode_options, "modes": order}
    return [(name, _plain(value)) for name, value in pairs.items() if value is not None]


def _plain(value: Any) -> str:
    """A value of a setting for people."""
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return ", ".join(f"{name} {_plain(part)}" for name, part in pairs.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _count(value: float) -> str:
    """A median of whole numbers may end in a half."""
    return f"{value:g}"
