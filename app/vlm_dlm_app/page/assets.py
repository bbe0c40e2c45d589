"""Scripts and styles of the live view: files in `static/`, joined into one of each."""

from __future__ import annotations

from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
# In this order: each may use those before it.
SCRIPTS = (
    *("parts", "tokens", "stream", "diff", "card", "panels", "record", "toolbar"),
    *("tracks", "replay", "encoder", "code", "share", "image", "compare", "visitor"),
)
STYLES = ("page", "replay")
SCRIPT_PATH = "/page/page.js"


@cache
def script(*names: str) -> str:
    """JavaScript of all parts, or of those named."""
    return "\n".join((STATIC / f"{name}.js").read_text("utf-8") for name in names or SCRIPTS)


@cache
def style(*names: str) -> str:
    """CSS of all parts, or of those named."""
    return "\n".join((STATIC / f"{name}.css").read_text("utf-8") for name in names or STYLES)
