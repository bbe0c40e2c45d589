"""Scripts and styles of the live view: files in `static/`, joined into one of each."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from vlm_dlm.request import REFERENCE_MODE
from vlm_dlm_app.answering.modes import OPTION_FIELDS
from vlm_dlm_app.page.options import told_controls
from vlm_dlm_app.page.speeds import LEAST_QUEUE_MS, LEAST_TOKENS, TOO_SHORT

STATIC = Path(__file__).parent / "static"
# In this order: each may use those before it.
SCRIPTS = (
    *("parts", "tokens", "stream", "diff", "card", "panels", "record", "toolbar"),
    *("tracks", "steering", "replay", "encoder", "code", "share"),
    *("image", "job", "compare", "visitor"),
)
STYLES = ("page", "replay")
SCRIPT_PATH = "/page/page.js"
# What the live view shares with the rest of the server, as `vlmDlm.told`.
TOLD = {
    "reference": REFERENCE_MODE,
    "too_short": TOO_SHORT,
    "least_tokens": LEAST_TOKENS,
    "least_queue_ms": LEAST_QUEUE_MS,
    "options": list(OPTION_FIELDS.values()),
    "controls": told_controls(),
}


@cache
def script(*names: str) -> str:
    """JavaScript of all parts, after what they are told, or of those named alone."""
    parts = [(STATIC / f"{name}.js").read_text("utf-8") for name in names or SCRIPTS]
    told = [] if names else [f"window.vlmDlm = {{told: {json.dumps(TOLD)}}};"]
    return "\n".join([*told, *parts])


@cache
def style(*names: str) -> str:
    """CSS of all parts, or of those named."""
    return "\n".join((STATIC / f"{name}.css").read_text("utf-8") for name in names or STYLES)
