"""A text is cut before the first stop string, wherever its pieces were cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm.engine.stop_strings import StopStrings
from vlm_dlm.errors import BadInputError
from vlm_dlm.request import SamplingParams

FEW_LETTERS = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=5), min_size=1, max_size=4).map(tuple)


def cut(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, bool]:
    finder = StopStrings(stops)
    text = "".join(finder.push(piece) for piece in pieces)
    return text + finder.flush(), finder.is_found


def expected(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """Look at every beginning of the text, the shortest first."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(text=FEW_LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 30), max_size=8))
def test_any_pieces_of_a_text_give_the_same_cut(
    text: str, stops: tuple[str, ...], cuts: list[int]
) -> None:
    bounds = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    assert cut(pieces, stops) == cut([text], stops) == cut(list(text), stops)
    assert cut([text], stops) == expected(text, stops)


@given(text=FEW_LETTERS, stops=STOPS)
def test_only_what_may_begin_a_stop_string_is_held_back(text: str, stops: tuple[str, ...]) -> None:
    finder = StopStrings(stops)
    shown = ""
    for end, char in enumerate(text, 1):
        shown += finder.push(char)
        if finder.is_found:
            break
        held = text[:end].removeprefix(shown)
        assert shown + held == text[:end]
        assert held == "" or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "is_found"),
    [
        (["one tw", "o three"], ("two",), "one ", True),
        (["one tw", "elve"], ("two",), "one twelve", False),
        (["one tw"], ("two",), "one tw", False),
        (["abcd"], ("abcd", "c"), "ab", True),
        (["abc"], ("c", "bc"), "a", True),
        (["aab"], ("ab",), "a", True),
        (["x", "y"], ("x",), "", True),
        (["grüße\n\nEnde"], ("\n\n",), "grüße", True),
        (["a", "b"], (), "ab", False),
    ],
)
def test_examples(pieces: list[str], stops: tuple[str, ...], text: str, is_found: bool) -> None:
    assert cut(pieces, stops) == (text, is_found)


def test_text_that_is_clear_is_shown_at_once() -> None:
    finder = StopStrings(("END",))
    assert [finder.push(piece) for piece in ("so ", "E", "N", "d ", "EN")] == [
        "so ", "", "", "ENd ", "",
    ]  # fmt: skip
    assert finder.flush() == "EN"


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (("a", ""), "at least 1 character"),
        (("a",) * 17, "17 strings; at most 16"),
        (("a" * 257,), "257 characters; at most 256"),
    ],
)
def test_stop_strings_that_cannot_be_honoured(stop: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        SamplingParams(stop=stop)
    assert SamplingParams(stop=("a" * 256,) * 16).stop
