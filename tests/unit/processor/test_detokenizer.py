"""Streamed text equals decoded text, in whole characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm.processor.detokenizer import IncrementalDetokenizer
from vlm_dlm.processor.tokenizer import Tokenizer


def pieces_of(tokenizer: Tokenizer, ids: list[int], size: int = 1) -> list[str]:
    stream = IncrementalDetokenizer(tokenizer)
    pieces = [stream.push(ids[start : start + size]) for start in range(0, len(ids), size)]
    return [*pieces, stream.flush()]


def test_an_emoji_arrives_when_its_last_byte_does(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_text("🙂")
    assert len(ids) == 4
    assert pieces_of(tokenizer, ids) == ["", "", "", "🙂", ""]


def test_leading_spaces_survive(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_text(" the  the\n\n the ")
    assert "".join(pieces_of(tokenizer, ids)) == " the  the\n\n the "


def test_an_unfinished_character_is_flushed_as_a_replacement(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_text("a🙂")[:-1]
    assert pieces_of(tokenizer, ids) == ["a", "", "", "", "\ufffd"]


def test_markers_are_silent_and_do_not_split_a_character(tokenizer: Tokenizer) -> None:
    first, second = tokenizer.encode_text("é")
    assert "".join(pieces_of(tokenizer, [12, first, 13, second, 100, 11])) == "é"
    stream = IncrementalDetokenizer(tokenizer, skip_special=False)
    assert stream.push([12, 11]) == "<think><|im_end|>"


@given(st.text(max_size=40), st.integers(1, 7))
def test_any_text_streams_exactly(tokenizer: Tokenizer, text: str, size: int) -> None:
    pieces = pieces_of(tokenizer, tokenizer.encode_text(text), size)
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


@given(st.lists(st.integers(0, 2000), max_size=40), st.integers(1, 7))
def test_any_ids_stream_as_they_decode(tokenizer: Tokenizer, ids: list[int], size: int) -> None:
    assert "".join(pieces_of(tokenizer, ids, size)) == tokenizer.decode(ids)
