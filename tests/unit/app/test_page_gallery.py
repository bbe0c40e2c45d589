"""Example images and questions on the page."""

from __future__ import annotations

import tomllib
from html.parser import HTMLParser
from pathlib import Path

from vlm_dlm_app.page.gallery import (
    EXAMPLES,
    QUESTIONS,
    examples_folder,
    gallery_html,
    questions_html,
)

ROOT = Path(__file__).parents[3]


class Buttons(HTMLParser):
    """Counts buttons and images, and keeps what they show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")


def test_every_example_is_a_button_with_its_image_within() -> None:
    buttons = Buttons(gallery_html())
    assert buttons.tags.count("button") == len(EXAMPLES)
    assert all(source.startswith("data:image/") for source in buttons.sources)
    assert len(set(buttons.sources)) == len(EXAMPLES)


def test_every_question_is_a_button() -> None:
    assert Buttons(questions_html()).tags.count("button") == len(QUESTIONS)
    assert "&lt;b&gt;" in questions_html(("<b>",))


def test_the_wheel_carries_every_example() -> None:
    folder = examples_folder()
    assert folder is not None
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    carried = build["targets"]["wheel"]["force-include"]
    for example in EXAMPLES:
        assert (folder / example.file).is_file()
        assert carried[f"assets/examples/{example.file}"] == f"vlm_dlm_app/_examples/{example.file}"
