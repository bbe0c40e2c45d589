"""Code blocks of a page of documentation, each with the output that is shown below it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEFT_OUT = "…"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")


@dataclass(frozen=True, slots=True)
class Example:
    """language: of the code. shown, shown_as: the output, '' where none is shown, and its
    language. line: of the code, from 1."""

    language: str
    code: str
    shown: str
    shown_as: str
    line: int


def examples(page: Path, languages: Collection[str] = ("sh", "python")) -> list[Example]:
    """All blocks in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    result: list[Example] = []
    for index, block in enumerate(found):
        language, code = block.groups()
        if language not in languages:
            continue
        shown, shown_as = "", ""
        if index + 1 < len(found):
            follower = found[index + 1]
            is_next = not text[block.end() : follower.start()].strip()
            if is_next and follower[1] in ("json", "text"):
                shown, shown_as = follower[2], follower[1]
        line = text.count("\n", 0, block.start()) + 1
        result.append(Example(language, code, shown, shown_as, line))
    return result


def differences(shown: Any, real: Any, place: str = "reply") -> list[str]:
    """Where a real reply does not look like the shown one: other fields, other types, other texts.
    Numbers may differ. A field or text with LEFT_OUT stands for anything."""
    if isinstance(shown, dict) and isinstance(real, dict):
        return _fields(shown, real, place)
    if isinstance(shown, list) and isinstance(real, list):
        if len(shown) != len(real):
            return [f"{place} has {len(real)} entries"]
        pairs = zip(shown, real, strict=True)
        return [
            text for i, pair in enumerate(pairs) for text in differences(*pair, f"{place}[{i}]")
        ]
    if isinstance(shown, str) and isinstance(real, str):
        is_same = (
            real.startswith(shown.removesuffix(LEFT_OUT)) if LEFT_OUT in shown else shown == real
        )
        return [] if is_same else [f"{place} is {real!r}"]
    is_number = _is_number(shown) and _is_number(real)
    return (
        []
        if is_number or (type(shown) is type(real) and shown == real)
        else [f"{place} is {real!r}"]
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fields(shown: dict[str, Any], real: dict[str, Any], place: str) -> list[str]:
    wanted = {name for name in shown if name != LEFT_OUT}
    found = [f"{place} has no {name}" for name in sorted(wanted - set(real))]
    if LEFT_OUT not in shown:
        found += [f"{place} also has {name}" for name in sorted(set(real) - wanted)]
    for name in sorted(wanted & set(real)):
        found += differences(shown[name], real[name], f"{place}.{name}")
    return found


def same_events(shown: str, real: str) -> list[str]:
    """`differences` of two event streams, event by event."""
    pairs = [_events(shown), _events(real)]
    kinds = [[kind for kind, _ in events] for events in pairs]
    if kinds[0] != kinds[1]:
        return [f"the events are {kinds[1]}"]
    both = zip(*pairs, strict=True)
    return [text for (kind, a), (_, b) in both for text in differences(a, b, kind)]


def _events(stream: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for chunk in stream.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in chunk.splitlines())
        found.append((lines["event"], json.loads(lines["data"])))
    return found


def plain(text: str) -> str:
    """The same whatever its numbers are, and without space at the ends of lines."""
    return "\n".join(_NUMBER.sub("0", line.rstrip()) for line in text.strip().splitlines())
