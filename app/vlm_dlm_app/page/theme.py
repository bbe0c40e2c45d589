"""Colours and fonts of Gradio's own parts; only fonts that the visitor has."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from gradio.themes import Base, Default

SANS = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> Base:
    """Calm: one accent, grey for the rest; dark enough that white and grey text can be read."""
    calm = Default(primary_hue="teal", neutral_hue="slate", font=SANS, font_mono=MONO)
    return calm.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        body_text_color_subdued="*neutral_500",
    )
