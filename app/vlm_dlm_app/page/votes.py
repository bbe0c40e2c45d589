"""Votes of the blind test: who won, how often, and the file a visitor takes away."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

from vlm_dlm_app.schemas.bounds import MAX_NAME_CHARS

CHOICES = ("A", "B", "no difference")
MAX_VOTES = 1000  # kept in the visitor's browser, whose store is small
MAX_CHARS = 2**20  # of all of them, as each call brings them and takes them back
MAX_QUESTION_CHARS = 1000
COLUMNS = (
    *("time", "question", "vote", "winner", "mode_a", "mode_b"),
    *("tokens_per_second_a", "tokens_per_second_b", "is_same_text"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def read_votes(stored: Any) -> list[dict[str, Any]]:
    """What the browser remembers, the newest where it is too much; anything else in its place
    counts as nothing."""
    if not isinstance(stored, list):
        return []
    votes: list[dict[str, Any]] = []
    rest = MAX_CHARS
    for vote in reversed(cast("list[Any]", stored)[-MAX_VOTES:]):
        if not _is_vote(vote):
            continue
        rest -= sum(len(value) for value in vote.values() if isinstance(value, str))
        if rest < 0:
            break
        votes.append(vote)
    return votes[::-1]


def _is_vote(found: Any) -> TypeGuard[dict[str, Any]]:
    """Of this version."""
    vote = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    has_all = set(vote) == set(COLUMNS) and vote["vote"] in CHOICES
    return has_all and all(_is_cell(name, value) for name, value in vote.items())


def _is_cell(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= (MAX_QUESTION_CHARS if name == "question" else MAX_NAME_CHARS)
    return not isinstance(value, list | dict)


def tally(votes: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[list[Any]]:
    """One row per mode that was voted on: title, shown, won, lost, no difference."""
    rows: dict[str, list[Any]] = {}
    for vote in votes:
        for own in (str(vote["mode_a"]), str(vote["mode_b"])):
            row = rows.setdefault(own, [titles.get(own, own), 0, 0, 0, 0])
            row[1] += 1
            row[2 if vote["winner"] == own else 3 if vote["winner"] else 4] += 1
    return sorted(rows.values(), key=lambda row: (-row[2], str(row[0])))


def as_csv(votes: Sequence[Mapping[str, Any]]) -> str:
    """All votes, for a spreadsheet: no cell of it can act as a formula."""
    found = io.StringIO()
    writer = csv.writer(found)
    writer.writerow(COLUMNS)
    for vote in votes:
        writer.writerow([_cell(vote[name]) for name in COLUMNS])
    return found.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
