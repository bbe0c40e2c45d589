"""`data:image/png;base64,...`, or base64 alone, to bytes, in time and memory linear in its length.

Taken as clients write it: line breaks and spaces, the alphabet of URLs, escapes of URLs, missing
padding, any type and parameters. What a picture is, its content tells.
"""

from __future__ import annotations

import binascii

from vlm_dlm.errors import ImageError, ImageTooLargeError
from vlm_dlm.processor.image_kinds import kind_of
from vlm_dlm_app.media.base64_pieces import SPACES, decode_base64, letters_of

SCHEME = "data:"
FORM = "data:image/png;base64,..."
_MAX_HEADER = 1024
# More than one space for each character is padding that makes a body large and its image small.
_FREE_SPACES = 64
_HEAD_CHARS = 4096


def is_data_uri(text: str) -> bool:
    """Whether `text` claims to be one."""
    return text[:64].lstrip(SPACES)[: len(SCHEME)].lower() == SCHEME


def parse_data_uri(text: str, max_bytes: int) -> bytes:
    """The bytes in a base64 data URI.

    Raises ImageError, or ImageTooLargeError before anything is decoded.
    """
    start = text[:64].lower().find(SCHEME)
    comma = text.find(",", 0, _MAX_HEADER)
    if not is_data_uri(text) or comma < start:
        raise ImageError(f"the image is not a data URI of the form {FORM}")
    parameters = text[start + len(SCHEME) : comma].split(";")
    if "base64" not in (one.strip(SPACES).lower() for one in parameters[1:]):
        raise ImageError(f"the image's data URI must be base64, in the form {FORM}")
    return _decoded(text, comma + 1, max_bytes)


def parse_base64(text: str, max_bytes: int) -> bytes | None:
    """The bytes of a picture in base64 without a scheme, None if that is no such thing.

    Raises ImageError, or ImageTooLargeError before anything is decoded.
    """
    try:
        head = letters_of(text[:_HEAD_CHARS].rpartition("%")[0] or text[:_HEAD_CHARS])
        is_picture = kind_of(binascii.a2b_base64(head[: len(head) // 4 * 4])) is not None
    except ValueError:
        return None
    return _decoded(text, 0, max_bytes) if is_picture else None


def _decoded(text: str, start: int, max_bytes: int) -> bytes:
    num_spaces = sum(text.count(space, start) for space in SPACES)
    num_escapes = text.count("%", start)
    num_chars = len(text) - start - num_spaces - 2 * num_escapes
    if num_chars <= 0:
        raise ImageError("the image is empty")
    if num_spaces > num_chars + _FREE_SPACES:
        raise ImageError(
            f"the image's base64 has {num_spaces} spaces and line breaks; the limit is one for "
            "each other character"
        )
    limit = f"the limit is {max_bytes} (max_image_bytes)"
    num_padding = text.count("=", max(start, len(text) - 4))
    num_bytes = (num_chars - num_padding - num_escapes) * 3 // 4
    if num_bytes > max_bytes:
        raise ImageTooLargeError(f"the image has {num_bytes} bytes; {limit}")
    try:
        data = decode_base64(text, start)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise ImageError("the image's data is not valid base64") from None
    if not data:
        raise ImageError("the image is empty")
    if len(data) > max_bytes:  # what was escaped counts only now
        raise ImageTooLargeError(f"the image has {len(data)} bytes; {limit}")
    return data
