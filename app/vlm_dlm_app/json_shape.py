"""How deep and how rich a JSON text is, found without parsing it."""

from __future__ import annotations

import re

from vlm_dlm_app.errors import ApiError

# Strings, objects and lists of one body. The largest request that is within all other limits has
# a few thousand.
MAX_PARTS = 100_000
_MARK = re.compile(rb'["\[\]{}]')
_QUOTE, _OPENING = ord('"'), b"[{"


def check_shape(body: bytes, max_depth: int) -> None:
    """Raise ApiError (400) for a text that a parser would choke on.

    Walks from one quote or bracket to the next, so that the megabytes of an image cost nothing.
    Text that is no JSON at all is left to the parser.
    """
    if b"\0" in body:  # JSON is UTF-8 here; in UTF-16 marks would not be where they seem to be
        raise ApiError(400, "invalid_json", "the body is not valid JSON in UTF-8")
    depth = place = num_parts = 0
    while (mark := _MARK.search(body, place)) is not None:
        place, found = mark.end(), body[mark.start()]
        if found == _QUOTE:
            place, num_quotes = _behind_string(body, place)
            num_parts += num_quotes
        elif found in _OPENING:
            num_parts += 1
            depth += 1
            if depth > max_depth:
                message = f"the JSON is nested deeper than {max_depth} levels (max_json_depth)"
                raise ApiError(400, "json_too_deep", message)
        else:
            depth -= 1
        if num_parts > MAX_PARTS:
            message = f"the JSON has more parts than the limit, which is {MAX_PARTS}"
            raise ApiError(400, "json_too_large", message)


def _behind_string(body: bytes, start: int) -> tuple[int, int]:
    """(place behind the closing quote or the end of all, quotes looked at)."""
    num_quotes, place = 1, start
    while (quote := body.find(b'"', place)) >= 0:
        piece = body[place:quote]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 0:
            return quote + 1, num_quotes
        place = quote + 1
        num_quotes += 1
        if num_quotes > MAX_PARTS:
            break
    return len(body), num_quotes
