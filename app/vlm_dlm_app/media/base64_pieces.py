"""Base64 to bytes, piece by piece: the library holds the interpreter's lock while it decodes."""

from __future__ import annotations

import binascii
from io import BytesIO

SPACES = " \t\r\n\f\v"
PIECE_CHARS = 2**18  # a few milliseconds
_ESCAPES = {"%2b": "+", "%2f": "/", "%3d": "=", "%0a": "", "%0d": "", "%20": "", "%09": ""}
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def decode_base64(text: str, start: int = 0) -> bytes:
    """The bytes in `text` from `start` on, in either alphabet, with or without padding, broken up
    by spaces or not. Raises ValueError for anything else."""
    decoded, letters, cut = BytesIO(), b"", ""
    for place in range(start, len(text), PIECE_CHARS):
        piece = cut + text[place : place + PIECE_CHARS]
        escape = piece.rfind("%", len(piece) - 2)
        cut = piece[escape:] if escape >= 0 else ""
        letters += letters_of(piece[: len(piece) - len(cut)])
        size = max(len(letters) - 4, 0) // 4 * 4  # the padding is in the last four
        if b"=" in letters[:size]:
            raise ValueError("padding is not at the end")
        decoded.write(_decoded(letters[:size]))
        letters = letters[size:]
    letters += letters_of(cut)
    bare = letters[:-4] + letters[-4:].rstrip(b"=")
    decoded.write(_decoded(bare + b"=" * (-len(bare) % 4)))
    return decoded.getvalue()


def letters_of(text: str) -> bytes:
    """In the standard alphabet, without what only breaks it up. Raises ValueError."""
    if "%" in text:
        for escape, character in _ESCAPES.items():
            text = text.replace(escape, character).replace(escape.upper(), character)
    return text.encode("ascii").translate(_TO_STANDARD, SPACES.encode())


def _decoded(letters: bytes) -> bytes:
    if letters.endswith(b"==="):  # not refused by every Python
        raise ValueError("the length is not that of base64")
    return binascii.a2b_base64(letters, strict_mode=True)
