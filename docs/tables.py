"""Writes the reference tables of these pages from the code: `make docs`; a test compares them.

A table stands between `<!-- NAME: make docs -->` and `<!-- end -->`. fields.md is written whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import typer

from vlm_dlm.cli.main import app as cli
from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.options import ModeOption, option_table
from vlm_dlm_app.answering.live_metrics import SERIES
from vlm_dlm_app.http.error_codes import ROWS
from vlm_dlm_app.schemas.fields.page import written as fields_page
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.telemetry.metrics import PREFIX, Metrics

DOCS = Path(__file__).parent
# Defaults that say nothing as they are written in Python.
IN_WORDS = {
    "model": "the embedded one",
    "script_words": "a sentence",
    "max_running": "the engine's own",
    "max_cache_tokens": "the engine's own",
}
# Flags whose parameter is not called as its setting.
SETTING_OF = {"api_key": "api_keys"}


def settings_table() -> str:
    """Of all settings, with flags and defaults."""
    flags = _flags()
    rows = ["| Setting | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        shown = " ".join(f"`{each}`" for each in [name, *flags.get(name, ())])
        rows.append(f"| {shown} | {_default(name, field.default)} | {field.description} |")
    return "\n".join(rows)


def _flags() -> dict[str, list[str]]:
    """Flags of `vlm-dlm serve`, by setting."""
    command = cast("Any", typer.main.get_command(cli)).commands["serve"]
    options: list[tuple[str, list[str]]] = [(each.name, each.opts) for each in command.params]
    return {SETTING_OF.get(name, name): flags for name, flags in options}


def _default(name: str, value: object) -> str:
    if value is None or value == ():
        return IN_WORDS.get(name, "none")
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def errors_table() -> str:
    """Of all codes that a client may see, by status."""
    lines = [
        f"| {row.status} | {', '.join(f'`{code}`' for code in row.codes)} | {row.when} |"
        for row in sorted(ROWS, key=lambda row: row.status)
    ]
    return "\n".join(["| Status | Code | When |", "|---|---|---|", *lines])


def metrics_table() -> str:
    """Of all series, with the labels they have beside `model_name`."""
    rows = [
        (series.name, series.type, metric._labelnames[1:], series.documentation)
        for metric in Metrics("").own
        for series in metric.describe()
    ]
    rows += [(live.name, live.family("x", "").type, (), live.about) for live in SERIES]
    lines = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    for name, kind, labels, about in rows:
        shown = name.removeprefix(PREFIX) + ("_total" if kind == "counter" else "")
        words = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{shown}` | {kind} | {words} | {about} |")
    return "\n".join(lines)


def options_table() -> str:
    """Of what modes can be told."""
    lines = ["| Option | Mode | Range | Default | |", "|---|---|---|---|---|"]
    for option in option_table(mode.options for mode in MODES.values()).values():
        names = ", ".join(f"`{name}`" for name in option.request_names)
        names = names or f"`{option.name}`, not in requests"
        about = option.help
        for name, mode in MODES.items():
            for own in mode.options:
                if own.name == option.name:
                    default = _shown(getattr(mode.Params(), own.name))
                    lines.append(f"| {names} | `{name}` | {_span(own)} | {default} | {about} |")
                    names = about = ""
    return "\n".join(lines)


def _span(option: ModeOption) -> str:
    span = "yes or no" if option.kind is bool else f"{option.low:g} to {option.high:g}"
    return f"{span}, or none" if option.can_be_none else span


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).lower()


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("serving.md", settings_table),
    "errors": ("serving.md", errors_table),
    "metrics": ("operate.md", metrics_table),
    "options": ("modes.md", options_table),
}


def pages() -> dict[Path, str]:
    """Every page that holds a table, as it should be."""
    found = {DOCS / "fields.md": fields_page()}
    for name, (page, table) in TABLES.items():
        path = DOCS / page
        text = found.get(path) or path.read_text(encoding="utf-8")
        start, end = f"<!-- {name}: make docs -->\n", "<!-- end -->"
        pattern = re.compile(f"{re.escape(start)}.*?{end}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{page} has no place, or several, for its table of {name}")
        # blank lines: the table is Markdown, the marks are HTML
        found[path] = pattern.sub(_as_is(f"{start}\n{table()}\n\n{end}"), text)
    return found


def _as_is(text: str) -> Callable[[object], str]:
    """A replacement in which backslashes mean nothing."""
    return lambda _: text


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
