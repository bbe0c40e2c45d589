"""Untrusted image bytes to a plain RGB picture.

Owns the limits, the format allow-list and the conversion rules. Knows nothing about patches. Error
sentences are fixed here: a decoder's own message can hold addresses and never reaches the caller.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from io import BytesIO
from math import ceil, prod
from pathlib import Path

from PIL import Image, JpegImagePlugin

from vlm_dlm.errors import ImageError, ImageTooLargeError
from vlm_dlm.processor.image_kinds import FORMATS, check_kind
from vlm_dlm.processor.image_mending import lacks_end, mended_jpeg, without_texts
from vlm_dlm.processor.rgb import to_rgb
from vlm_dlm.processor.tiff_colours import (
    check_lab,
    is_without_rule,
    unpack_by_libtiff,
    unsupported,
)

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Up to here a picture stays as it is, pixel for pixel, so that an answer does not depend on how the
# image came in: the model's resize has no antialiasing and would see any earlier one. It covers
# photos of common cameras; above, memory counts for more.
MAX_WHOLE_PIXELS = 16_000_000


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost. Sides and pixels are read from the header, before any decoding."""

    max_pixels: int = 40_000_000
    max_side: int = 16_384
    max_bytes: int = 20 * 2**20
    formats: tuple[str, ...] = FORMATS


def read_image(
    source: Path | bytes, limits: ImageLimits | None = None, apply_exif: bool = True
) -> Image.Image:
    """Decode the first frame of `source` to mode RGB: no alpha, no metadata, upright.

    Alpha is composited on white. `apply_exif=False` keeps the stored orientation, as the reference
    preprocessing does. Raises ImageError for anything unreadable or over a limit.
    """
    limits = limits or ImageLimits()
    data, name = (source, "the image") if isinstance(source, bytes) else _read_file(source, limits)
    if not data:
        raise ImageError(f"{name} is empty")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(f"{name} has {len(data)} bytes; the limit is {limits.max_bytes}")
    return upright_rgb(open_image(data, limits, name), name, limits, apply_exif, data)


def open_image(data: bytes, limits: ImageLimits, name: str = "the image") -> Image.Image:
    """Parse the header only. The allow-list keeps every other decoder from running.

    Raises ImageFormatError, ImageTooLargeError or ImageError.
    """
    kind = check_kind(data, limits.formats, name)
    try:
        return _opened(data, kind)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # raised before our own check can see the size; only the number is taken from the text
        found = re.search(r"\d+", str(error))
        size = f"{found.group()} pixels" if found else "too many pixels"
        raise ImageTooLargeError(f"{name} has {size}; the limit is {limits.max_pixels}") from None
    except Exception:  # header parsers raise many types on hostile bytes; none may pass
        if kind == "TIFF" and is_without_rule(data):
            raise unsupported(name) from None
        raise ImageError(f"{name} is damaged or cut short") from None


def upright_rgb(
    image: Image.Image,
    name: str = "the image",
    limits: ImageLimits | None = None,
    apply_exif: bool = True,
    data: bytes = b"",
    max_side: int = 0,
) -> Image.Image:
    """An opened image as `read_image` gives it. Raises ImageError as that does.

    data: its file, where that may be mended. max_side: pictures above MAX_WHOLE_PIXELS are shrunk
    to it by a whole number while they are decoded; 0 for no limit.
    """
    _check_size(image.size, name, limits or ImageLimits())
    check_lab(image, name)
    size = image.size
    try:
        loaded = _loaded(image, data, max_side)
        orientation = _orientation(loaded) if apply_exif else 1
        rgb = to_rgb(loaded, shrink_factor(size, loaded.size, max_side))
    except Exception:  # decoders raise many types on hostile bytes; none may pass
        raise ImageError(f"{name} is damaged or cut short") from None
    turn = _TURNS.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _read_file(path: Path, limits: ImageLimits) -> tuple[bytes, str]:
    """Bytes of a regular file (at most one over the limit) and the name to use in messages."""
    name = repr(path.name or str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name} is a folder, not an image file")
        # a pipe or a device could block for ever or never end
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is not a regular file")
        if status.st_size > limits.max_bytes:
            raise ImageTooLargeError(
                f"{name} has {status.st_size} bytes; the limit is {limits.max_bytes}"
            )
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1), name
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except (OSError, ValueError):  # ValueError: a NUL in the path
        raise ImageError(f"{name} cannot be read") from None


def _opened(data: bytes, kind: str) -> Image.Image:
    return Image.open(BytesIO(without_texts(data) if kind == "PNG" else data), formats=[kind])


def _loaded(image: Image.Image, data: bytes, max_side: int) -> Image.Image:
    """With its pixels; smaller already where the format can do that. Raises anything."""
    height = image.height  # before it is shrunk
    try:
        return _load(image, max_side)
    except Exception:
        if not isinstance(image, JpegImagePlugin.JpegImageFile) or not lacks_end(data):
            raise
    image.close()
    mended = mended_jpeg(data, height, lambda whole: _load(_opened(whole, "JPEG"), max_side))
    if mended is None:
        raise ValueError("pixels are missing")
    return mended


def _load(image: Image.Image, max_side: int) -> Image.Image:
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        factor = shrink_factor(image.size, image.size, max_side)
        if factor > 1:
            image.draft(None, tuple(max(1, side // factor) for side in image.size))  # pyright: ignore[reportArgumentType]
    unpack_by_libtiff(image)
    image.load()
    return image


def shrink_factor(size: tuple[int, int], now: tuple[int, int], max_side: int) -> int:
    """How many times each side of a picture that is `now` so large is to become smaller. size: as
    it was stored."""
    if not max_side or prod(size) <= MAX_WHOLE_PIXELS:
        return 1
    return max(1, ceil(max(now) / max_side))


def _check_size(size: tuple[int, int], name: str, limits: ImageLimits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} is {width} x {height} pixels; it has no content")
    if max(width, height) > limits.max_side:
        raise ImageTooLargeError(
            f"{name} is {width} x {height} pixels; the limit is {limits.max_side} per side"
        )
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"{name} is {width} x {height} = {width * height} pixels; "
            f"the limit is {limits.max_pixels}"
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation tag; a broken tag block counts as none."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the tag block is as untrusted as the pixels, but not worth a refusal
        return 1
