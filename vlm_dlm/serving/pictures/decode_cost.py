"""What decoding a picture costs in memory, from its header alone."""

from __future__ import annotations

from math import prod

from vlm_dlm.processor.image_input import MAX_WHOLE_PIXELS, shrink_factor
from vlm_dlm.processor.image_kinds import kind_of
from vlm_dlm.serving.pictures.image_header import is_progressive

# Bytes for each pixel of the file in a decoder's child, measured: its library's buffers and the
# picture at its full size. An unknown format counts as the dearest.
_BYTES = {"PNG": 5, "BMP": 6, "GIF": 6, "TIFF": 10, "WEBP": 12, "AVIF": 16, "JPEG": 9}
_DEAREST = max(_BYTES.values())
_PROGRESSIVE = 7  # all coefficients of a JPEG at once
_SHRUNK_JPEG = 1  # it is never there at its full size
# What its library shrinks it to, twice where its end is missing and is tried out.
_SHRUNK = 8
_MAX_SHRINKING = 8  # by a power of two
# A picture that is handed over whole: its copy as RGB, and what is made of it here.
_COPY, _WHOLE = 4, 17
_BASE = 8 * 2**20
# Address space is taken in larger pieces than memory.
ADDRESS_SHARE = 1.5


def decode_cost(data: bytes, size: tuple[int, int], max_side: int | None) -> int:
    """Bytes, an upper bound for the child and the caller together. size, max_side: as the pool
    has them."""
    num_pixels = prod(size)
    kind = kind_of(data)
    per_pixel = _BYTES.get(kind or "", _DEAREST)
    base = _BASE + len(data) * 2
    if not max_side or num_pixels <= MAX_WHOLE_PIXELS:
        return base + num_pixels * max(per_pixel + _COPY, _WHOLE)
    now = size
    if kind == "JPEG":
        per_pixel = _PROGRESSIVE if is_progressive(data) else _SHRUNK_JPEG
        now = _shrunk(size, _power_of_two(shrink_factor(size, size, max_side)))
        base += prod(now) * _SHRUNK
    given = _shrunk(now, shrink_factor(size, now, max_side))
    return base + num_pixels * per_pixel + prod(given) * _WHOLE


def _shrunk(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return -(-size[0] // factor), -(-size[1] // factor)


def _power_of_two(factor: int) -> int:
    """The largest by which a JPEG's library shrinks that is not above the factor."""
    return min(1 << (factor.bit_length() - 1), _MAX_SHRINKING)
