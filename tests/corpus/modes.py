"""Pictures that are unusual and right: every mode of the formats that are read, and what moves."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.corpus.images import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    Groups,
    Named,
    animation,
    apng_with_frame_count,
    assembled,
    chunk,
    encode,
    flat_rows,
    ihdr,
    jpeg_scans,
    long_gif,
    noise,
    picture,
)

_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def groups() -> Groups:
    """Files by the statuses they may get."""
    yield {200}, _by_hand()
    yield {200}, _by_encoder()
    yield {200}, _moving()


def _by_hand() -> Iterator[Named]:
    depths = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8), RGB: (8, 16)}
    depths |= {GREY_ALPHA: (8, 16), RGBA: (8, 16)}
    for color, all_depths in depths.items():
        for depth in all_depths:
            for interlace in (0, 1):
                text = f"PNG, colour type {color}, {depth} bits, interlace {interlace}"
                yield text, _flat_png(depth, color, interlace)


def _flat_png(depth: int, color: int, interlace: int, side: int = 40) -> bytes:
    plain = zlib.decompress(flat_rows(side, side, depth, color))
    rows = zlib.compress(plain if not interlace else _interlaced(len(plain) // side, side))
    palette = [chunk(b"PLTE", bytes(3 * 2**depth))] if color == PALETTE else []
    head = ihdr(side, side, depth, color, interlace)
    return assembled(head, *palette, chunk(b"IDAT", rows), chunk(b"IEND"))


def _interlaced(row_bytes: int, side: int) -> bytes:
    """Zeros for all seven passes; a whole number of bytes per row of any pass is more than enough
    for black, because the rest is ignored."""
    num_bytes = 0
    for left, top, step_x, step_y in _ADAM7:
        columns = -(-(side - left) // step_x)
        rows = -(-(side - top) // step_y)
        num_bytes += rows * (1 + -(-(row_bytes - 1) * columns // side))
    return bytes(num_bytes)


def _by_encoder() -> Iterator[Named]:
    base = noise(64, 48)
    alpha = base.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(base.size))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"PNG of mode {mode}", encode((alpha if "A" in mode else base).convert(mode))
    deep = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64))
    yield "PNG of 16 bit grey", encode(deep)
    yield "PNG with one transparent colour", encode(base.convert("P"), transparency=3)
    yield "PNG with a transparent grey", encode(base.convert("L"), transparency=7)
    for mode in ("L", "RGB", "CMYK"):
        yield f"JPEG of mode {mode}", encode(base.convert(mode), "JPEG")
    yield "JPEG, worst quality", picture("JPEG", quality=1)
    yield "JPEG, best quality, full colour", picture("JPEG", quality=100, subsampling=0)
    yield "JPEG, progressive", picture("JPEG", progressive=True)
    yield "JPEG with restart markers", picture("JPEG", restart_marker_blocks=1)
    yield "JPEG without its end", picture("JPEG")[:-2]
    yield "JPEG, progressive, without its end", picture("JPEG", progressive=True)[:-2]
    yield "JPEG of odd sides", picture("JPEG", 61, 47)
    yield "JPEG with a last scan 20 times", jpeg_scans(20)
    yield "WebP, lossless", picture("WEBP", lossless=True)
    yield "WebP, worst quality", picture("WEBP", quality=0)
    yield "WebP with alpha", encode(alpha, "WEBP")
    yield "WebP with alpha, lossless", encode(alpha, "WEBP", lossless=True)
    yield "GIF with a transparent colour", encode(base.convert("P"), "GIF", transparency=0)
    yield "GIF of grey", encode(base.convert("L"), "GIF")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"BMP, {mode}", encode(base.convert(mode), "BMP")
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"):
        source = base.convert("L") if mode in ("LA", "I;16", "F") else base
        yield f"TIFF, {mode}", encode(source.convert(mode), "TIFF")
    yield "TIFF, YCbCr", encode(base.convert("YCbCr"), "TIFF")
    yield "TIFF, LAB", encode(Image.merge("LAB", base.split()), "TIFF")
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"TIFF, {packing}", encode(base, "TIFF", compression=packing)
    yield "AVIF", encode(base, "AVIF")
    yield "AVIF with alpha", encode(alpha, "AVIF")
    yield "GIF of two colours", encode(base.convert("1"), "GIF")
    yield "GIF, interlaced", encode(base.convert("P"), "GIF", interlace=1)


def _moving() -> Iterator[Named]:
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        for num_frames in (2, 12):
            yield f"{kind} of {num_frames} frames", animation(kind, num_frames)
    yield "GIF of 5000 frames", long_gif(5000)
    yield (
        "JPEG with a second picture",
        encode(noise(64, 48), "MPO", save_all=True, append_images=[noise(32, 32, 1)]),
    )
    for num_frames in (1, 2, 10**6, 2**31 - 1):
        yield f"PNG that announces {num_frames} frames", apng_with_frame_count(num_frames)
