"""Streams can be read back, however the network cuts them."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sse import Event, EventReader, read_events
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.streaming import DONE, KEEP_ALIVE, sse, sse_error

# Halves of surrogate pairs included: JSON in ASCII carries even those.
TEXTS = st.lists(st.text(st.characters(), max_size=12), max_size=12)
KINDS = st.sampled_from([None, "draft", "text", "result"])


def cut(stream: bytes, positions: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(position % (len(stream) + 1) for position in positions)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(TEXTS, KINDS, st.lists(st.integers(0, 5000), max_size=20), st.booleans())
def test_texts_join_to_the_whole_however_they_are_cut(
    texts: list[str], kind: str | None, positions: list[int], has_silences: bool
) -> None:
    pause = KEEP_ALIVE if has_silences else b""
    stream = pause.join(sse({"text": text}, kind) for text in texts) + pause + DONE
    reader = EventReader()
    events = [event for piece in cut(stream, positions) for event in reader.feed(piece)]
    assert reader.is_between_events
    assert events.pop() == Event("message", "[DONE]")
    assert {event.kind for event in events} <= {kind or "message"}
    assert "".join(json.loads(event.data)["text"] for event in events) == "".join(texts)


@given(st.text(st.characters(), max_size=40))
def test_an_error_is_one_event_whatever_it_says(message: str) -> None:
    (event,) = read_events(sse_error(ApiError("bad_input", message or "x")))
    assert set(json.loads(event.data)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "stream",
    [
        *(b"data: x", b"data: x\n", b"data: x\r\n\r\n", b"data:x\n\n", b"datum: x\n\n", b"x\n\n"),
        *(
            b"event: a\n\n",
            b"event: a\nevent: b\ndata: x\n\n",
            b"id: 1\ndata: x\n\n",
            b"data: \xff\n\n",
        ),
        *(b"data: \0\n\n",),
    ],
)
def test_the_reader_is_strict(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_events(stream)
