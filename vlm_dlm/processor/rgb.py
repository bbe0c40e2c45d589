"""Decoded pictures of any mode to RGB on white, strip by strip, and smaller where that is asked.

A large picture exists only once at its full size: copies of it would cost more memory than the
file's decoder does.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_OPAQUE_16_BIT = 65535
_STRIP_PIXELS = 2**20


def to_rgb(image: Image.Image, factor: int = 1) -> Image.Image:
    """A loaded image in mode RGB, alpha on white. factor: each side so many times smaller, by the
    mean of the pixels. Raises ValueError for a mode without a rule."""
    width, height = (-(-side // factor) for side in image.size)
    canvas = Image.new("RGB", (width, height))
    scale = _float_scale(image)
    rows = max(1, _STRIP_PIXELS // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if factor > 1 and image.mode == "LAB":  # its conversion costs more than all the rest
            rgb = _converted(strip.reduce(factor), scale)
        else:
            rgb = _converted(strip, scale)
            rgb = rgb.reduce(factor) if factor > 1 else rgb
        canvas.paste(rgb, (0, top // factor))
    return canvas


def _converted(image: Image.Image, scale: float) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image)) * scale
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _float_scale(image: Image.Image) -> float:
    """Pictures of floats reach to 1, to 255 or to 65535."""
    if image.mode != "F":
        return 1.0
    high = float(image.getextrema()[1])  # pyright: ignore[reportArgumentType]
    return 255.0 if high <= 1 else 1.0 if high <= 255 else 1 / 257


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey 0..65535 to RGB by the high byte: Pillow would clip at 255, which turns it all white."""
    values = np.array(image).astype(np.int64).clip(0, _OPAQUE_16_BIT)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values[values == transparent] = _OPAQUE_16_BIT
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
