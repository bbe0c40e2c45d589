"""Which image the next answers will be about, in views that have no image of their own."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import gradio as gr

# The scripts are there by now, or paint it themselves once they are.
_PAINT = "window.vlmDlm?.visitor?.showImage()"


def add(view: str) -> None:
    """A line that `static/visitor.js` keeps true. view: part of the element's id."""
    gr.HTML(
        '<div class="vd" data-image-line></div>',
        js_on_load=_PAINT,
        elem_id=f"{view}-image",
        padding=False,
    )
