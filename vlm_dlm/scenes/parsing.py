"""Objects found in the text of a caption, right or wrong, and how well they match."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from vlm_dlm.scenes.scenes import COLOURS, PLACES, SHAPES, SIZES


def _one_of(words: Iterable[str]) -> str:
    return "(" + "|".join(sorted(words, key=len, reverse=True)) + ")"


_OBJECT_PATTERN = re.compile(
    rf"\ba {_one_of(SIZES)} {_one_of(COLOURS)} {_one_of(SHAPES)} {_one_of(PLACES)}"
    rf"|\bthe (word|number) (\w+) in {_one_of(COLOURS)} {_one_of(PLACES)}"
    rf"|\bthe {_one_of(COLOURS)} (bar) is (\d+)"
)


def parse_caption(text: str) -> frozenset[tuple[str, ...]]:
    """Object phrases found in any text; repeats differ in their last item, a running number."""
    seen: Counter[tuple[str, ...]] = Counter()
    for match in _OBJECT_PATTERN.finditer(text):
        seen[tuple(group for group in match.groups() if group)] += 1
    return frozenset((*item, str(copy)) for item, count in seen.items() for copy in range(count))


def object_f1(predicted: str, reference: str) -> float:
    """F1 of the object phrases of two captions; 1 if neither has any."""
    found, wanted = parse_caption(predicted), parse_caption(reference)
    total = len(found) + len(wanted)
    return 2 * len(found & wanted) / total if total else 1.0
