"""Words about the loaded model: what it is, what it can see, how to get the large one."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.state import Services

REAL_MODEL = "nvidia/Nemotron-Labs-Diffusion-VLM-8B"
_EMBEDDED = (
    "It is small and knows drawn scenes and charts: coloured shapes, a few written words, bars. "
    "Photographs are beyond it, and it will describe them wrongly."
)


def model_line(services: Services) -> str:
    """One line of HTML for the top of the page."""
    name = "the embedded model" if services.settings.model is None else services.settings.model
    sees = f" {_EMBEDDED}" if services.settings.model is None else ""
    return f"<p><strong>vlm-dlm</strong> is running {escape(name)}.{sees}</p>"


def about_text(services: Services) -> str:
    """Markdown."""
    return (
        "### The 8B model\n\n"
        f"Start the server with `vlm-dlm serve --model {REAL_MODEL}` on a machine with a GPU of "
        "24 GB or more. Its weights are under a licence of their own.\n\n"
        "### Privacy\n\nNothing leaves this server and your browser: no analytics, no outside "
        "requests. What you upload is deleted within the hour."
    )
