"""Pictures whose size is the attack: too large, too small, too thin, or not the promised one."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.images import (
    Groups,
    Named,
    assembled,
    chunk,
    encode,
    ihdr,
    jpeg_scans,
    noise,
    picture,
    png,
    riff,
)

MAX_SIDE = 16_384


def groups() -> Groups:
    """Files by the statuses they may get."""
    yield {200}, _read()
    yield {400}, _no_use()
    yield {413}, _too_large()
    yield {200, 400}, _doubtful()


def _read() -> Iterator[Named]:
    for width, height in (
        *((16, 16), (16, 17), (27, 27), (28, 28), (29, 29), (29, 57), (57, 29), (56, 28)),
        *((16, 3200), (3200, 16), (448, 448), (449, 447), (1401, 300)),
    ):
        yield f"{width} x {height} grey", png(width, height)
    yield "longest side allowed", png(MAX_SIDE, 100, depth=1)
    yield "highest side allowed", png(100, MAX_SIDE, depth=1)
    yield "a photo of three megapixels", encode(noise(2000, 1500), "JPEG", quality=50)


def _no_use() -> Iterator[Named]:
    for width, height in ((1, 1), (1, 64), (64, 1), (1, 2000), (2000, 1), (15, 15), (15, 64)):
        yield f"{width} x {height} grey", png(width, height)
    yield "longer than 200 widths", png(3201, 16)
    yield "higher than 200 widths", png(16, 3201)
    for kind in ("JPEG", "WEBP", "GIF"):
        yield f"1 x 1 {kind}", picture(kind, 1, 1)
    for width, height in ((0, 0), (0, 64), (64, 0)):
        rows = chunk(b"IDAT", b"x\x9c\x03\x00\x00\x00\x00\x01")
        yield f"{width} x {height} PNG", assembled(ihdr(width, height), rows, chunk(b"IEND"))
    yield "JPEG without a height", _jpeg_of_size(64, 0)
    yield "BMP that promises 4000 x 4000", _bmp_of_size(4000, 4000)
    yield "TIFF that promises 4000 x 4000", _tiff_of_size("<", 4000)
    yield "GIF whose frame promises more than it has", _gif_of_size(64, 64, 2000, 2000)
    first, second = ihdr(64, 64), ihdr(4000, 4000)
    yield "PNG with a second, larger header", assembled(first, second, *_rest_of_png())


def _too_large() -> Iterator[Named]:
    yield "JPEG of 1000 scans", jpeg_scans(1000)
    for side in (13_000, 14_000):
        yield f"bomb of {side} x {side} bits", png(side, side, depth=1)
    yield "one pixel row of 60000", png(60_000, 1)
    yield "wider than allowed", png(MAX_SIDE + 1, 100, depth=1)
    yield "higher than allowed", png(100, MAX_SIDE + 1, depth=1)
    yield "wider than allowed, one row", png(MAX_SIDE + 1, 1)
    yield "higher than allowed, one column", png(1, MAX_SIDE + 1)
    yield "some pixels over the limit", png(8000, 5001, depth=1)
    for width, height in ((50_000, 50_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1)):
        yield f"header of {width} x {height}", assembled(ihdr(width, height), *_rest_of_png())
    yield "JPEG that promises 65535 x 65535", _jpeg_of_size(65_535, 65_535)
    yield "JPEG that promises 16384 x 16384", _jpeg_of_size(MAX_SIDE, MAX_SIDE)
    yield "GIF with a screen of 65535 x 65535", _gif_of_size(65_535, 65_535, 32, 32)
    yield "GIF whose frame lies far outside", _gif_of_size(64, 64, 65_535, 65_535)
    yield "WebP that promises 16777216 x 16777216", riff((b"VP8X", bytes(4) + b"\xff" * 6))
    yield "lossy WebP that promises 16383 x 16383", _webp_of_size(0x3FFF)
    yield "BMP that promises 20000 x 20000", _bmp_of_size(20_000, 20_000)
    yield "BMP from the top that promises 20000 x 20000", _bmp_of_size(20_000, -20_000)
    yield "BMP of a negative width", _bmp_of_size(-64, 64)
    for order in "<", ">":
        yield f"TIFF that promises 20000 x 20000, {order}", _tiff_of_size(order, 20_000)
        yield (
            f"TIFF that promises 4294967295 x 4294967295, {order}",
            _tiff_of_size(order, 2**32 - 1),
        )
    yield "AVIF that promises 20000 x 20000", _avif_of_size(20_000)
    yield "one byte over 20 MiB", picture("PNG") + bytes(20 * 2**20 + 1 - len(picture("PNG")))


def _doubtful() -> Iterator[Named]:
    """A slow machine may run out of time; a decoder may fill in what is missing."""
    yield "as many pixels as allowed", png(8000, 5000, depth=1)
    yield "AVIF that promises 4000 x 4000", _avif_of_size(4000)
    yield "JPEG that promises 4000 x 4000", _jpeg_of_size(4000, 4000)


def _rest_of_png() -> tuple[bytes, bytes]:
    data = png(64, 64)
    return data[33:-12], data[-12:]


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(picture("JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _gif_of_size(width: int, height: int, frame_width: int, frame_height: int) -> bytes:
    data = bytearray(picture("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    frame = data.index(b",", start)
    data[frame + 5 : frame + 9] = struct.pack("<HH", frame_width, frame_height)
    return bytes(data)


def _webp_of_size(side: int) -> bytes:
    data = bytearray(picture("WEBP"))
    data[26:30] = struct.pack("<HH", side, side)
    return bytes(data)


def _bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(picture("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def _tiff_of_size(order: str, side: int) -> bytes:
    """A directory that tells a size and nothing else."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 2)
    entries = (struct.pack(order + "HHII", tag, 4, 1, side) for tag in (256, 257))
    return head + b"".join(entries) + bytes(4)


def _avif_of_size(side: int) -> bytes:
    data = bytearray(picture("AVIF"))
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", side, side)
    return bytes(data)
