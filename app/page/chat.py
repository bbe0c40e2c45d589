"""To come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

if TYPE_CHECKING:
    from app.state import Services


def add(services: Services) -> None:
    """Fill the current place."""
    gr.Markdown("")
