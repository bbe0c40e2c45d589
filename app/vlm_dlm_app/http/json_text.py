"""The encoding of JSON: UTF-8 (RFC 8259), with or without the mark that some editors put first."""

from __future__ import annotations

from collections.abc import Iterator

from vlm_dlm_app.http.errors import ApiError

_MARK = b"\xef\xbb\xbf"
_UTF32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# What encoders write for characters of base64, and what they mean.
_ESCAPES = (
    *((b"\\/", b"/"), (b"\\u002B", b"+"), (b"\\u002b", b"+")),
    *((b"\\u003D", b"="), (b"\\u003d", b"=")),
)
_LONGEST_ESCAPE = 6
_PIECE_BYTES = 2**20


def without_mark(body: bytes) -> bytes:
    """The text alone. Raises ApiError (400) for one in UTF-16 or UTF-32."""
    if body.startswith(_MARK):
        return body[len(_MARK) :]
    found = _other_encoding(body[:4])
    if found is not None:
        message = f"the JSON is in {found}; it must be in UTF-8"
        raise ApiError("invalid_json", message)
    return body


def without_escapes(body: bytes) -> bytes | bytearray:
    """The same JSON with the characters of base64 as they are: a parser takes a text with escapes
    twice into memory, which for a picture is much."""
    # After a backslash that stands for itself, what looks like an escape may be none.
    if b"\\" not in body or b"\\\\" in body:
        return body
    found = bytearray()
    for piece in _pieces(body):
        for escape, character in _ESCAPES:
            piece = piece.replace(escape, character)
        found += piece
    return found


def _pieces(body: bytes) -> Iterator[bytes]:
    """Cut between escapes, each of which has one backslash: other threads have their turn between
    the pieces."""
    start = 0
    while start < len(body):
        end = start + _PIECE_BYTES
        backslash = body.rfind(b"\\", end - _LONGEST_ESCAPE, end)
        if backslash > start:
            end = backslash
        yield body[start:end]
        start = end


def _other_encoding(start: bytes) -> str | None:
    """By its mark, or by the zeros among the first characters, which are ASCII in any JSON."""
    if start.startswith(_UTF32) or start.count(0) == 3:
        return "UTF-32"
    has_zeros = len(start) >= 2 and (start[0] == 0) != (start[1] == 0)
    return "UTF-16" if start.startswith(_UTF16) or has_zeros else None
