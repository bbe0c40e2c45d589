"""In pieces, base64 says what it says at once."""

from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm_app.media import base64_pieces
from vlm_dlm_app.media.base64_pieces import decode_base64

ODD = ("A", "b", "-", "_", "%2B", "%0a", " ", "=")
TEXTS = st.one_of(
    st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
    st.binary(max_size=60).map(lambda data: base64.encodebytes(data).decode()),
    st.text("AB=\n\r+/é", max_size=40),
    st.lists(st.sampled_from(ODD), max_size=30).map("".join),
)
PLAIN = {" ": "", "\n": "", "\r": "", "%2B": "+", "%0a": "", "-": "+", "_": "/"}


def at_once(text: str) -> bytes | None:
    for spelling, letter in PLAIN.items():
        text = text.replace(spelling, letter)
    bare = text[:-4] + text[-4:].rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    if padded.endswith("==="):
        return None
    try:
        return binascii.a2b_base64(padded, strict_mode=True)
    except ValueError:
        return None


@given(TEXTS, st.integers(1, 9))
def test_pieces_of_any_size_give_the_same(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base64_pieces, "PIECE_CHARS", size)
        expected = at_once(text)
        if expected is None:
            with pytest.raises(ValueError):  # noqa: PT011 - the sentence is the caller's
                decode_base64("x," + text, 2)
        else:
            assert decode_base64("x," + text, 2) == expected
