"""Base64 to bytes, piece by piece: the library holds the interpreter's lock while it decodes."""

from __future__ import annotations

import binascii
from io import BytesIO

PIECE_CHARS = 2**18  # a few milliseconds


def decode_base64(text: str, start: int = 0) -> bytes:
    """The bytes in `text` from `start` on; line breaks count for nothing. Raises ValueError for
    anything else that is not strict base64 with its padding."""
    end = len(text)
    while end > start and text[end - 1] in "\r\n":
        end -= 1
    decoded, rest = BytesIO(), ""
    for place in range(start, end, PIECE_CHARS):
        stop = min(place + PIECE_CHARS, end)
        piece = rest + text[place:stop].replace("\n", "").replace("\r", "")
        size = len(piece) if stop == end else len(piece) // 4 * 4
        if stop < end and "=" in piece[:size]:
            raise ValueError("padding is not at the end")
        rest = piece[size:]
        if size % 4 or piece.endswith("==="):  # not refused by every Python
            raise ValueError("the length is not that of base64")
        decoded.write(binascii.a2b_base64(piece[:size], strict_mode=True))
    return decoded.getvalue()
