"""What an image's header promises, read without a decoder.

Plain byte arithmetic, so that hostile bytes meet no native code in this process. The size found is
the one that Pillow reports; the decoding child refuses a picture that turns out otherwise, so a
budget over these sizes holds.
"""

from __future__ import annotations

from collections.abc import Callable

from vlm_dlm.errors import ImageError, ImageTooLargeError
from vlm_dlm.processor.image_input import ImageLimits
from vlm_dlm.processor.image_kinds import check_kind
from vlm_dlm.serving.pictures.image_boxes import avif_size, tiff_size
from vlm_dlm.serving.pictures.image_bytes import ImageBytes

MIN_SIDE = 16
MAX_ASPECT = 200
DAMAGED = "the image is damaged or cut short"

_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_IN_ONE_PASS = frozenset({0xC0, 0xC1})
_JPEG_WITHOUT_LENGTH = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_JPEG_START_OF_SCAN = 0xDA
MAX_JPEG_SCANS = 200  # encoders write about ten; each is a pass over all pixels


def header_size(data: bytes, limits: ImageLimits | None = None) -> tuple[int, int]:
    """(width, height) of an image that may be decoded.

    Raises ImageFormatError for another format, ImageTooLargeError for anything over a limit, and
    ImageError for a damaged header or a picture too small or too thin to be read.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageError("the image is empty")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(
            f"the image has {len(data)} bytes; the limit is {limits.max_bytes} (max_image_bytes)"
        )
    measure = _MEASURES[check_kind(data, limits.formats)]
    try:
        width, height = measure(ImageBytes(data))
    except ValueError:
        raise ImageError(DAMAGED) from None
    _check_size(width, height, limits)
    return width, height


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    found = f"the image is {width} x {height} pixels"
    if max(width, height) > limits.max_side:
        raise ImageTooLargeError(f"{found}; the limit is {limits.max_side} per side")
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"the image is {width} x {height} = {width * height} pixels; "
            f"the limit is {limits.max_pixels} (max_image_pixels)"
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{found}; each side needs at least {MIN_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{found}; the limit is {MAX_ASPECT} times as long as wide")


def _png(data: ImageBytes) -> tuple[int, int]:
    if data.piece(12, 4) != b"IHDR":
        raise ValueError
    return data.big(16, 4), data.big(20, 4)


def is_progressive(jpeg: bytes) -> bool:
    """Whether a JPEG's pixels come in several passes, for which a decoder keeps all coefficients.
    One whose header makes no sense may."""
    try:
        return _jpeg_frame(ImageBytes(jpeg))[2] not in _JPEG_IN_ONE_PASS
    except ValueError:
        return True


def _jpeg(data: ImageBytes) -> tuple[int, int]:
    width, height, _ = _jpeg_frame(data)
    num_scans = data.count(bytes((0xFF, _JPEG_START_OF_SCAN)))
    if num_scans > MAX_JPEG_SCANS:
        raise ImageTooLargeError(f"the JPEG has {num_scans} scans; the limit is {MAX_JPEG_SCANS}")
    return width, height


def _jpeg_frame(data: ImageBytes) -> tuple[int, int, int]:
    """Width, height and marker of the last frame header before the first scan, as Pillow takes
    it."""
    size: tuple[int, int, int] | None = None
    position = 2
    while True:
        position = data.find(b"\xff", position)
        marker = data.big(position + 1)
        if marker == 0xFF:  # padding
            position += 1
            continue
        position += 2
        if marker == _JPEG_START_OF_SCAN and size is not None:
            return size
        if marker == 0 or marker in _JPEG_WITHOUT_LENGTH:
            continue
        if marker in _JPEG_START_OF_FRAME:
            size = data.big(position + 5, 2), data.big(position + 3, 2), marker
        position += data.big(position, 2)


def _gif(data: ImageBytes) -> tuple[int, int]:
    """The screen, grown to hold the first frame, as Pillow does."""
    width, height = data.little(6, 2), data.little(8, 2)
    position = 13 + _palette_bytes(data.big(10))
    while (kind := data.big(position)) != 0x3B:  # the end
        if kind == 0x2C:  # an image
            left, top, across, down = (data.little(position + at, 2) for at in (1, 3, 5, 7))
            return max(width, left + across), max(height, top + down)
        if kind != 0x21:  # Pillow skips stray bytes one by one
            position += 1
            continue
        position += 2
        while length := data.big(position):
            position += length + 1
        position += 1
    raise ValueError


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _webp(data: ImageBytes) -> tuple[int, int]:
    kind = data.piece(12, 4)
    if kind == b"VP8X":
        return data.little(24, 3) + 1, data.little(27, 3) + 1
    if kind == b"VP8L" and data.big(20) == 0x2F:
        bits = data.little(21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data.piece(23, 3) == b"\x9d\x01\x2a":
        return data.little(26, 2) & 0x3FFF, data.little(28, 2) & 0x3FFF
    raise ValueError


def _bmp(data: ImageBytes) -> tuple[int, int]:
    if data.little(14, 4) == 12:
        return data.little(18, 2), data.little(20, 2)
    height = data.little(22, 4)
    # rows from the top down have a negative height
    return data.little(18, 4), 2**32 - height if data.big(25) == 0xFF else height


_MEASURES: dict[str, Callable[[ImageBytes], tuple[int, int]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": tiff_size,
    "AVIF": avif_size,
}
