"""Colours and fonts of Gradio's own parts; only fonts that the visitor has."""

from __future__ import annotations

from gradio.themes import Base, Default

SANS = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> Base:
    """Calm: one accent, grey for the rest."""
    return Default(primary_hue="teal", neutral_hue="slate", font=SANS, font_mono=MONO)
