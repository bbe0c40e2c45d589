"""Code blocks of a Markdown page, and the commands in them. Standard library alone."""

from __future__ import annotations

import re
from pathlib import Path


class MissingError(Exception):
    """A page no longer shows what a newcomer needs."""


def blocks(page: Path, language: str) -> list[str]:
    """The contents of all blocks in that language, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def block(page: Path, language: str, holds: str) -> str:
    """The first block with `holds` in it. Raises MissingError."""
    for found in blocks(page, language):
        if holds in found:
            return found
    raise MissingError(f"{page.name} has no block of {language} with {holds!r}")


def commands(page: Path, start: str = "") -> list[str]:
    """Lines of its shell blocks that begin with `start`, without comments, joined where they go on.
    Raises MissingError if there are none."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [re.sub(r"(^|\s+)# .*", "", line).strip() for line in text.splitlines()]
    found = [line for line in lines if line and line.startswith(start)]
    if not found:
        raise MissingError(f"{page.name} has no command {start}")
    return found
