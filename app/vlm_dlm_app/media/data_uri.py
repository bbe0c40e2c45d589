"""`data:image/png;base64,...` to bytes, in time and memory linear in its length."""

from __future__ import annotations

import binascii

from vlm_dlm.errors import ImageError, ImageFormatError, ImageTooLargeError

MIME_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif")
_SCHEME = "data:"
_MAX_HEADER = 64
# Encoders break lines every 64 or 76 characters, some with two characters per break. More is
# padding that makes a body large and its image small.
_MIN_LINE = 60


def is_data_uri(text: str) -> bool:
    """Whether `text` claims to be one."""
    return text[: len(_SCHEME)].lower() == _SCHEME


def parse_data_uri(text: str, max_bytes: int) -> bytes:
    """The bytes in a base64 data URI of a supported image type.

    Raises ImageError, ImageFormatError, or ImageTooLargeError before anything is decoded.
    """
    comma = text.find(",", 0, _MAX_HEADER)
    if not is_data_uri(text) or comma < 0:
        raise ImageError("the image is not a data URI of the form data:image/png;base64,...")
    mime, _, encoding = text[len(_SCHEME) : comma].lower().partition(";")
    if encoding != "base64":
        raise ImageError("the image's data URI must be base64 and have no other parameters")
    if mime not in MIME_TYPES:
        raise ImageFormatError(
            f"the image's data URI must have one of the types {', '.join(MIME_TYPES)}"
        )
    return _decoded(text, comma + 1, max_bytes)


def _decoded(text: str, start: int, max_bytes: int) -> bytes:
    num_breaks = text.count("\n", start) + text.count("\r", start)
    num_chars = len(text) - start - num_breaks
    if not num_chars:
        raise ImageError("the image is empty")
    if num_breaks > 2 * (num_chars // _MIN_LINE + 1):
        raise ImageError(
            f"the image's data URI has {num_breaks} line breaks; lines need at least {_MIN_LINE} "
            "characters"
        )
    num_padding = text.count("=", max(start, len(text) - 4))
    num_bytes = num_chars // 4 * 3 - num_padding
    if num_bytes > max_bytes:
        raise ImageTooLargeError(
            f"the image has {num_bytes} bytes; the limit is {max_bytes} (max_image_bytes)"
        )
    payload = text[start:]
    if num_breaks:
        payload = payload.replace("\n", "").replace("\r", "")
    try:
        if num_chars % 4 or payload.endswith("==="):  # not refused by every Python
            raise ValueError
        return binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise ImageError("the image's data URI is not valid base64") from None
