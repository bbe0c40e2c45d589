"""How deep and how rich a JSON text is, found without parsing it.

What a parser does with one body cannot be interrupted, so its work is bounded before: by what a
text holds, whichever way it is spelled.
"""

from __future__ import annotations

from itertools import accumulate

from vlm_dlm_app.http.errors import ApiError

# Values and names of one body: a report on four answers of 4096 tokens each has 165,000.
MAX_PARTS = 200_000
MAX_CONTAINERS = 50_000  # lists and objects among them
MAX_BARE_BYTES = 4 * 2**20  # outside of texts: numbers, marks and white space
MAX_DIGITS = 400  # of one number; the largest that computers hold has 309
# Encoders write / and + of an image as \/ and \u002B, one in 32 characters.
MAX_ESCAPES = 900_000
# Of texts with characters beyond Latin-1, of which each can take 4 bytes once it is read.
MAX_WIDE_BYTES = 4 * 2**20

_QUOTE, _BACKSLASH = b'"', ord("\\")
_OPENINGS, _CLOSINGS = b"[{", b"]}"
_NOT_BRACKETS = bytes(set(range(256)) - set(_OPENINGS + _CLOSINGS))
_STEPS = [(code in _OPENINGS) - (code in _CLOSINGS) for code in range(256)]
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)


def check_shape(body: bytes, max_depth: int) -> None:
    """Raise ApiError (400) for a text that a parser would choke on.

    Jumps from quote to quote, so that the megabytes of an image cost nothing. Text that is no JSON
    at all is left to the parser, which stops where that shows. body: UTF-8 without a mark before.
    """
    if b"\0" in body:
        raise ApiError("invalid_json", "the body is not valid JSON in UTF-8")
    if body.count(b"\\") > MAX_ESCAPES:
        raise _too_large("escaped characters", MAX_ESCAPES)
    bare = _outside_of_texts(body)
    # As far as it is JSON, no more of these close than open.
    brackets = bare.translate(None, _NOT_BRACKETS)[: 2 * MAX_CONTAINERS]
    if max(accumulate(_STEPS[code] for code in brackets), default=0) > max_depth:
        message = f"the JSON is nested deeper than {max_depth} levels (max_json_depth)"
        raise ApiError("json_too_deep", message)
    num_containers = sum(bare.count(code) for code in _OPENINGS)
    if num_containers > MAX_CONTAINERS:
        raise _too_large("lists and objects", MAX_CONTAINERS)
    # Every value but the first follows a comma, a colon or an opening bracket, names alike.
    if bare.count(b",") + bare.count(b":") + num_containers >= MAX_PARTS:
        raise _too_large("parts", MAX_PARTS)
    if b"0" * (MAX_DIGITS + 1) in bare.translate(_DIGITS_AS_ZEROS):
        raise _too_large("digits in one number", MAX_DIGITS)


def _too_large(what: str, limit: int) -> ApiError:
    message = f"the JSON has more {what} than the limit, which is {limit}"
    return ApiError("json_too_large", message)


def _outside_of_texts(body: bytes) -> bytearray:
    """All but the strings and their quotes."""
    is_narrow = not _is_wide(body)
    bare = bytearray()
    place = num_texts = num_wide_bytes = 0
    while place < len(body):
        quote = body.find(_QUOTE, place)
        quote = len(body) if quote < 0 else quote
        if len(bare) + quote - place > MAX_BARE_BYTES:
            raise _too_large("bytes outside of texts", MAX_BARE_BYTES)
        bare += body[place:quote]
        place = _after_text(body, quote + 1)
        num_texts += 1
        if num_texts > MAX_PARTS:
            raise _too_large("parts", MAX_PARTS)
        if not is_narrow and _is_wide(body[quote:place]):
            num_wide_bytes += place - quote
            if num_wide_bytes > MAX_WIDE_BYTES:
                raise _too_large("bytes of text beyond Latin-1", MAX_WIDE_BYTES)
    return bare


def _after_text(body: bytes, start: int) -> int:
    """The place after the closing quote, or the end of all."""
    place = start
    while (quote := body.find(_QUOTE, place)) >= 0:
        end = quote
        while end > place and body[end - 1] == _BACKSLASH:
            end -= 1
        if (quote - end) % 2 == 0:
            return quote + 1
        place = quote + 1
    return len(body)


def _is_wide(text: bytes) -> bool:
    """Whether characters beyond Latin-1 may be in it, so that reading makes it larger."""
    return not text.isascii() or text.count(b"\\u") != text.count(b"\\u00")
