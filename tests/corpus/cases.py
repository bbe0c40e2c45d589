"""The corpus: bad and odd image files, each with the answers that a route may give to it.

Generated, the same bytes every time. A status that is not in a case's set is a failed test: 200 for
what is read, 400 for what is damaged or has no use, 413 for what is too large, 415 for what is not
one of the four formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.corpus import damaged, foreign, metadata, modes, sizes
from tests.corpus.images import Named


@dataclass(frozen=True, slots=True)
class Case:
    """One file and what may be answered to it."""

    name: str
    data: bytes
    statuses: frozenset[int]


@cache
def corpus() -> tuple[Case, ...]:
    """Every case; names are unique."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for group in (sizes, modes, metadata, damaged, foreign):
        for statuses, files in group.groups():
            for name, data in files:
                yield Case(
                    f"{group.__name__.rpartition('.')[2]}: {name}", data, frozenset(statuses)
                )


__all__ = ["Case", "Named", "corpus"]
