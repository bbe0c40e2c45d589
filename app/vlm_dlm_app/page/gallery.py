"""Example images and questions, as HTML that the page's scripts know."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Example:
    """An image that is shipped with the project."""

    file: str
    title: str


EXAMPLES = (
    Example("shapes.png", "Shapes"),
    Example("chart.png", "Bar chart"),
    Example("words.jpg", "Words"),
    Example("tiny.png", "One square"),
)
QUESTIONS = ("Describe the image.", "How many objects are there?", "Which bar is the tallest?")


def examples_folder() -> Path | None:
    """Inside the installed package, else in the source tree; None where neither is there."""
    app = Path(__file__).resolve().parents[1]
    folders = (app / "_examples", app.parents[1] / "assets" / "examples")
    return next((folder for folder in folders if folder.is_dir()), None)


def gallery_html(examples: Sequence[Example] = EXAMPLES) -> str:
    """Buttons with thumbnails. The images are within, as they are small."""
    folder = examples_folder()
    if folder is None:
        return ""
    buttons = [_button(example, folder / example.file) for example in examples]
    return (
        f'<div class="vd-gallery" role="group" aria-label="Example images">{"".join(buttons)}</div>'
    )


def questions_html(questions: Sequence[str] = QUESTIONS) -> str:
    """Buttons with questions to ask."""
    buttons = [
        f'<button type="button" class="vd-question">{escape(text)}</button>' for text in questions
    ]
    return f'<div class="vd-questions" role="group" aria-label="Questions">{"".join(buttons)}</div>'


def _button(example: Example, path: Path) -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<button type="button" class="vd-example" data-name="{escape(example.file)}" '
        f'data-title="{escape(example.title)}"><img alt="" '
        f'src="data:{_TYPES[path.suffix]};base64,{data}"><span>{escape(example.title)}</span></button>'
    )
