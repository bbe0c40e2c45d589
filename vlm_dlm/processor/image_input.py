"""Untrusted image bytes to a plain RGB picture.

Owns the limits, the format allow-list and the conversion rules. Knows nothing about patches. Error
sentences are fixed here: a decoder's own message can hold addresses and never reaches the caller.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlm_dlm.errors import ImageError, ImageFormatError, ImageTooLargeError

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
_OPAQUE_16_BIT = 65535


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost. Sides and pixels are read from the header, before any decoding."""

    max_pixels: int = 40_000_000
    max_side: int = 16_384
    max_bytes: int = 20 * 2**20
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF")


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
    return upright_rgb(_open(data, name, limits), name, limits, apply_exif)


def upright_rgb(
    image: Image.Image,
    name: str = "the image",
    limits: ImageLimits | None = None,
    apply_exif: bool = True,
) -> Image.Image:
    """An opened image as `read_image` gives it. Raises ImageError as that does."""
    _check_size(image.size, name, limits or ImageLimits())
    try:
        image.load()
        orientation = _orientation(image) if apply_exif else 1
        rgb = _to_rgb(image)
    except Exception:  # decoders raise many types on hostile bytes; none may pass
        raise ImageError(f"{name} is damaged or cut short") from None
    turn = _TURNS.get(orientation)
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info = {}
    return upright


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


def _open(data: bytes, name: str, limits: ImageLimits) -> Image.Image:
    """Parse the header only. The allow-list keeps every other decoder from running."""
    try:
        return Image.open(BytesIO(data), formats=limits.formats)
    except UnidentifiedImageError:
        known = ", ".join(limits.formats)
        raise ImageFormatError(f"{name} is not in a supported format ({known})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # raised before our own check can see the size; only the number is taken from the text
        found = re.search(r"\d+", str(error))
        size = f"{found.group()} pixels" if found else "too many pixels"
        raise ImageTooLargeError(f"{name} has {size}; the limit is {limits.max_pixels}") from None
    except Exception:  # header parsers raise many types on hostile bytes; none may pass
        raise ImageError(f"{name} is damaged or cut short") from None


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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey 0..65535 to RGB by the high byte: Pillow would clip at 255, which turns it all white."""
    values = np.array(image).astype(np.int64).clip(0, _OPAQUE_16_BIT)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values[values == transparent] = _OPAQUE_16_BIT
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
