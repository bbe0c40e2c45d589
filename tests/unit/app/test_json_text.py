"""Escapes of base64 are undone piece by piece, and what the JSON says stays the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm_app.http import json_text
from vlm_dlm_app.http.json_text import without_escapes

ESCAPED = [r"\/", r"\u002B", r"\u002b", r"\u003D", r"\u003d"]
OTHERS = ["A", "/", "+", "=", r"\n", r"\"", r"\u00e9", r"\\", "u002B"]


@given(st.lists(st.sampled_from(ESCAPED + OTHERS), max_size=40), st.integers(7, 20))
def test_the_same_text_wherever_pieces_end(parts: list[str], piece_bytes: int) -> None:
    text = '"' + "".join(parts) + '"'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_PIECE_BYTES", piece_bytes)
        found = bytes(without_escapes(text.encode())).decode()
    assert json.loads(found) == json.loads(text)
    if r"\\" not in parts:
        assert not any(escape in found for escape in ESCAPED)
