"""Bar charts: how one is sampled, drawn in many styles, and what is true of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

import numpy as np
from PIL import Image, ImageDraw

from vlm_dlm.scenes.draw import RGB, Style, draw_text, sample_rgb
from vlm_dlm.scenes.scenes import (
    BACKGROUNDS,
    CAP_ASPECT,
    MIN_CAP_PX,
    NUMBER_NAMES,
    WORDS,
    Bar,
    Box,
    Chart,
    Scene,
    pick,
    pick_weighted,
    visible_colours,
)

MIN_CHART_SIDE = 140
_BACKGROUND_WEIGHTS = (0.7, 0.1, 0.08, 0.03, 0.03, 0.02, 0.0, 0.04, 0.0, 0.0, 0.0, 0.0)


def sample_chart_scene(rng: np.random.Generator, width: int, height: int) -> Scene:
    """A random bar chart of two to five bars."""
    background = pick_weighted(rng, BACKGROUNDS, _BACKGROUND_WEIGHTS)
    short_side = min(width, height)
    cap = float(rng.uniform(MIN_CAP_PX, max(14.0, 0.05 * short_side)))
    title = pick(rng, WORDS) if rng.random() < 0.3 else ""
    title_cap = cap * float(rng.uniform(1.0, 1.3))
    title_width = title_cap * CAP_ASPECT * len(title)
    title_left = (width - title_width) / 2
    title_top = 0.03 * height + 1
    title_box = (title_left, title_top, title_left + title_width, title_top + title_cap)
    top = title_box[3] + 0.4 * cap if title else 0.03 * height
    plot = (
        float(rng.uniform(0.06, 0.16)) * width + 6,
        top,
        float(rng.uniform(0.93, 0.98)) * width,
        height - float(rng.uniform(0.03, 0.06)) * height - 1.9 * cap,
    )
    bars, scale_max = _sample_bars(rng, plot, cap, background)
    chart = Chart(bars, plot, cap, scale_max, title, title_box if title else (0.0, 0.0, 0.0, 0.0))
    return Scene(width, height, background, chart=chart)


def _sample_bars(
    rng: np.random.Generator, plot: Box, cap: float, background: str
) -> tuple[tuple[Bar, ...], float]:
    """Bars that leave room for their values above them, and the value at the top of the plot."""
    num_bars = int(rng.integers(2, 6))
    values = _sample_values(rng, num_bars)
    colours = visible_colours(background)
    order = rng.permutation(len(colours))[:num_bars]
    plot_height = plot[3] - plot[1]
    tallest = plot_height - 2.0 * cap  # a value and its margins stand above the tallest bar
    # Half of the charts use the full scale 0..10, so that a bar's height alone tells its value.
    highest_value = max(values) if rng.random() < 0.5 else 10
    per_unit = tallest / highest_value
    slot = (plot[2] - plot[0]) / num_bars
    bar_width = slot * float(rng.uniform(0.45, 0.85))
    bars = []
    for index, value in enumerate(values):
        centre = plot[0] + slot * (index + 0.5)
        box = (centre - bar_width / 2, plot[3] - per_unit * value, centre + bar_width / 2, plot[3])
        bars.append(Bar(colours[order[index]], value, box))
    return tuple(bars), plot_height / per_unit


def _sample_values(rng: np.random.Generator, num_bars: int) -> list[int]:
    """Values 1 to 9 with one tallest and one shortest bar; others may tie."""
    while True:
        values = [int(value) for value in rng.integers(1, 10, num_bars)]
        if values.count(max(values)) == 1 and values.count(min(values)) == 1:
            return values


def draw_chart(
    image: Image.Image, chart: Chart, backdrop: RGB, style: Style, rng: np.random.Generator
) -> None:
    """Draw bars, values and random decoration onto `image`."""
    draw = ImageDraw.Draw(image)
    ink = _sample_ink(backdrop, rng)
    line_width = max(1, round(chart.cap_height / 12))
    _draw_frame(draw, chart, backdrop, ink, line_width, rng)
    bar_outline = style.outline in ("dark", "hue")
    is_value_in_bar_colour = rng.random() < 0.1
    for bar in chart.bars:
        rgb = sample_rgb(rng, bar.colour, backdrop)
        outline = ink if bar_outline else None
        draw.rectangle(bar.box, fill=rgb, outline=outline, width=line_width)
        is_legible = sum(abs(a - b) for a, b in zip(rgb, backdrop, strict=True)) > 240
        value_rgb = rgb if is_value_in_bar_colour and is_legible else ink
        draw_text(image, str(bar.value), value_box(bar, chart.cap_height), value_rgb, style, rng)
    if rng.random() < 0.6:
        _draw_letters(image, chart, ink, style, rng)
    if chart.title:
        draw_text(image, chart.title, chart.title_box, ink, style, rng)


def value_box(bar: Bar, cap_height: float) -> Box:
    """Where the value is printed: centred above its bar."""
    centre, bottom = (bar.box[0] + bar.box[2]) / 2, bar.box[1] - 0.45 * cap_height
    return (centre - cap_height / 2, bottom - cap_height, centre + cap_height / 2, bottom)


def _sample_ink(backdrop: RGB, rng: np.random.Generator) -> RGB:
    """Near black on light backgrounds, near white on dark ones."""
    level = int(rng.integers(0, 70)) if rng.random() < 0.5 else 0
    is_dark = sum(backdrop) < 330
    shade = 255 - level if is_dark else level
    return shade, shade, shade


def _draw_frame(
    draw: ImageDraw.ImageDraw,
    chart: Chart,
    backdrop: RGB,
    ink: RGB,
    line_width: int,
    rng: np.random.Generator,
) -> None:
    """Optional grid lines, axes or a full frame, and tick marks."""
    left, top, right, bottom = chart.plot
    unit = (bottom - top) / chart.scale_max
    step = pick(rng, (1, 2, 2, 5))
    heights = [bottom - unit * value for value in range(step, int(chart.scale_max) + 1, step)]
    if rng.random() < 0.35:
        grid = tuple((3 * value + shade) // 4 for value, shade in zip(backdrop, ink, strict=True))
        for y in heights:
            draw.line([left, y, right, y], fill=grid, width=1)
    look = pick_weighted(rng, ("none", "baseline", "axes", "frame"), (0.15, 0.25, 0.35, 0.25))
    if look == "frame":
        draw.rectangle([left, top, right, bottom], outline=ink, width=line_width)
    elif look != "none":
        draw.line([left, bottom, right, bottom], fill=ink, width=line_width)
    if look == "axes":
        draw.line([left, top, left, bottom], fill=ink, width=line_width)
    if look in ("axes", "frame") and rng.random() < 0.5:
        for y in heights:
            draw.line([left - 4, y, left, y], fill=ink, width=line_width)


def _draw_letters(
    image: Image.Image, chart: Chart, ink: RGB, style: Style, rng: np.random.Generator
) -> None:
    """Category letters A, B, C... (or from a random start) under the bars."""
    first = int(rng.integers(0, 22)) if rng.random() < 0.3 else 0
    cap = chart.cap_height * float(rng.uniform(0.85, 1.05))
    top = chart.plot[3] + 0.5 * cap
    for index, bar in enumerate(chart.bars):
        centre = (bar.box[0] + bar.box[2]) / 2
        box = (centre - cap / 2, top, centre + cap / 2, top + cap)
        draw_text(image, chr(ord("A") + first + index), box, ink, style, rng)


def extreme_colour(bars: Sequence[Bar], choose: Callable[..., int]) -> str:
    """Colour of the only tallest or shortest bar; empty when several tie, which sampled charts
    never do."""
    value = choose(bar.value for bar in bars)
    colours = [bar.colour for bar in bars if bar.value == value]
    return colours[0] if len(colours) == 1 else ""


def chart_facts(chart: Chart) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Kind of question, answer and slots of everything that can be asked about a chart."""
    yield "num_bars", NUMBER_NAMES[len(chart.bars)], {}
    if chart.title:
        yield "title", chart.title, {}
    for kind, choose in (("tallest", max), ("shortest", min)):
        if colour := extreme_colour(chart.bars, choose):
            yield kind, f"the {colour} bar", {}
    for bar in chart.bars:
        yield "value_of", str(bar.value), {"colour": bar.colour}
    for one, two in permutations(chart.bars, 2):
        if one.value != two.value:
            answer = "yes" if one.value > two.value else "no"
            yield "taller", answer, {"colour": one.colour, "other": two.colour}
