"""To come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

if TYPE_CHECKING:
    from app.page.compare import CompareView
    from app.state import Services


def add(services: Services, view: CompareView) -> None:
    """Fill the current tab."""
    gr.Markdown("")
