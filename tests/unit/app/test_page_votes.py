"""Votes: counted by mode, read back from a store that anybody can change, safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from vlm_dlm_app.page import votes
from vlm_dlm_app.page.votes import (
    COLUMNS,
    MAX_QUESTION_CHARS,
    MAX_VOTES,
    as_csv,
    read_votes,
    tally,
)
from vlm_dlm_app.schemas.bounds import MAX_NAME_CHARS


def vote(choice: str, winner: str, question: str = "What?") -> dict[str, Any]:
    values = (
        "2026-01-01T00:00:00+00:00",
        question,
        choice,
        winner,
        "ar",
        "diffusion",
        1.0,
        2.0,
        False,
    )
    return dict(zip(COLUMNS, values, strict=True))


VOTES = [vote("A", "ar"), vote("A", "ar"), vote("B", "diffusion"), vote("no difference", "")]


def test_the_tally_counts_won_lost_and_neither() -> None:
    titles = {"ar": "Autoregressive", "diffusion": "Block diffusion"}
    assert tally(VOTES, titles) == [["Autoregressive", 4, 2, 1, 1], ["Block diffusion", 4, 1, 2, 1]]
    assert tally([], titles) == []


def test_what_is_no_vote_counts_as_nothing() -> None:
    assert read_votes(VOTES) == VOTES
    assert read_votes(None) == read_votes("x") == read_votes({}) == []
    assert read_votes([None, {}, {"vote": "A"}, vote("C", "ar"), VOTES[0]]) == [VOTES[0]]


def test_the_file_has_all_votes_and_no_formula() -> None:
    text = as_csv([*VOTES, vote("A", "ar", '=HYPERLINK("http://x"),\n2')])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 5
    assert rows[0]["winner"] == "ar"
    assert rows[4]["question"] == '\'=HYPERLINK("http://x"),\n2'


def test_votes_take_no_more_than_a_browser_keeps() -> None:
    assert read_votes([vote("A", "ar", "x" * (MAX_QUESTION_CHARS + 1)), VOTES[0]]) == [VOTES[0]]
    assert read_votes([vote("A", "x" * (MAX_NAME_CHARS + 1)), VOTES[0]]) == [VOTES[0]]
    assert len(read_votes(VOTES * 1000)) == MAX_VOTES
    assert read_votes([{**VOTES[0], "question": ["x"] * 10}]) == []


def test_the_newest_are_kept_where_all_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "MAX_CHARS", 600)
    many = [vote("A", "ar", f"{number}" * 200) for number in range(5)]
    assert read_votes(many) == many[-2:]
