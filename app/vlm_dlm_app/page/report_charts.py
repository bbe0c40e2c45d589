"""Charts of a report: plain SVG, coloured by the report's style, readable without colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log10

from markupsafe import Markup

WIDTH, HEIGHT = 440, 240
LEAST_TOP = 1e-6
LEFT, RIGHT, TOP, BOTTOM = 48, 22, 12, 40
ROW_HEIGHT, LABEL_HEIGHT, BAR_HEIGHT, BAR_VALUE = 46, 18, 18, 70
NUM_STYLES = 6  # s0 to s5 in report.css
MAX_POINTS = 600
Place = Callable[[float, float], tuple[float, float]]  # from values to the drawing


@dataclass(frozen=True, slots=True)
class Line:
    """One series. points: x, y, rising in x."""

    title: str
    points: Sequence[tuple[float, float]]


def step_chart(lines: Sequence[Line], x_name: str, y_name: str) -> Markup:
    """Steps over time, one line each; empty without points."""
    x_top = max((x for line in lines for x, _ in line.points), default=0.0)
    y_top = max((y for line in lines for _, y in line.points), default=0.0)
    if not x_top or not y_top:
        return Markup("")
    x_ticks, y_ticks = ticks(x_top), ticks(y_top)
    x_end, y_end = max(x_top, x_ticks[-1]), max(y_top, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + x / x_end * across, 1), round(HEIGHT - BOTTOM - y / y_end * up, 1)

    parts = [_grid(place, x_ticks, y_ticks, x_end), _names(x_name, y_name)]
    parts += [_path(line, place, i % NUM_STYLES) for i, line in enumerate(lines) if line.points]
    label = f"{y_name} over {x_name}"
    return _svg(label, HEIGHT, Markup("").join(parts))


def bar_chart(rows: Sequence[tuple[str, float]], label: str) -> Markup:
    """One bar per row, with its number; empty without rows."""
    top = max((value for _, value in rows), default=0.0)
    if not top:
        return Markup("")
    parts: list[Markup] = []
    for i, (title, value) in enumerate(rows):
        y = i * ROW_HEIGHT
        length = max(0.0, round(value / top * (WIDTH - BAR_VALUE), 1))
        parts.append(
            Markup(
                '<text x="0" y="{}">{}</text>'
                '<rect class="s{}" x="0" y="{}" width="{}" height="{}" rx="3"/>'
                '<text x="{}" y="{}">{}</text>'
            ).format(
                *(y + LABEL_HEIGHT - 4, title),
                *(i % NUM_STYLES, y + LABEL_HEIGHT, length, BAR_HEIGHT),
                *(length + 8, y + LABEL_HEIGHT + 14, figure(value)),
            )
        )
    return _svg(label, len(rows) * ROW_HEIGHT, Markup("").join(parts))


def ticks(top: float, wanted: int = 5) -> list[float]:
    """Round numbers from 0 to at least `top`."""
    top = max(top, LEAST_TOP)  # below it powers of ten end
    rough = top / wanted
    power = 10.0 ** ceil(log10(rough) - 1e-9)
    step = next(power * part for part in (0.1, 0.2, 0.5, 1.0) if power * part * wanted >= top)
    return [step * i for i in range(ceil(top / step - 1e-9) + 1)]


def figure(value: float) -> str:
    """A number for people: three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about MAX_POINTS of them, the last one included."""
    stride = max(1, ceil(len(points) / MAX_POINTS))
    return [*points[:-1:stride], *points[-1:]]


def _svg(label: str, height: int, content: Markup) -> Markup:
    frame = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="chart">{}</svg>')
    return frame.format(WIDTH, height, label, content)


def _grid(place: Place, x_ticks: list[float], y_ticks: list[float], x_end: float) -> Markup:
    parts: list[Markup] = []
    for value in y_ticks:
        (x, y), (end, _) = place(0, value), place(x_end, value)
        line = Markup('<path class="grid" d="M{} {}H{}"/>').format(x, y, end)
        text = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>')
        parts += [line, text.format(x - 6, y + 4, f"{value:g}")]
    for value in x_ticks:
        x, y = place(value, 0)
        text = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
        parts.append(text.format(x, y + 16, f"{value:g}"))
    return Markup("").join(parts)


def _names(x_name: str, y_name: str) -> Markup:
    return Markup(
        '<text x="{}" y="{}" text-anchor="end">{}</text>'
        '<text transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>'
    ).format(WIDTH - RIGHT, HEIGHT - 6, x_name, (HEIGHT - BOTTOM + TOP) // 2, y_name)


def _path(line: Line, place: Place, style: int) -> Markup:
    """Level until the next point, then up."""
    places = [place(x, y) for x, y in thinned(line.points)]
    start = place(0, 0)
    steps = "".join(f"H{x}V{y}" for x, y in places)
    return Markup('<path class="line s{}" d="M{} {}{}"><title>{}</title></path>').format(
        style, start[0], start[1], steps, line.title
    )
