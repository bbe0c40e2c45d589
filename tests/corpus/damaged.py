"""Files that begin as one of the formats and do not hold what they promise."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from tests.corpus.images import (
    PALETTE,
    PNG_SIGNATURE,
    Groups,
    Named,
    assembled,
    chunk,
    chunks_of,
    encode,
    flat_rows,
    flipped,
    ihdr,
    noise,
    picture,
    png,
    riff,
)

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
END = chunk(b"IEND")
SIDE = 40


def groups() -> Groups:
    """Files by the statuses they may get."""
    yield {400}, _cut()
    yield {400}, _png_chunks()
    yield {400}, _jpeg_markers()
    yield {400}, _webp_blocks()
    yield {400}, _gif_blocks()
    # what a decoder makes of these is its own affair, as long as it is an answer
    yield {200, 400}, _doubtful()
    yield {200, 400, 413}, _flipped()


def _cut() -> Iterator[Named]:
    for kind in KINDS:
        data = picture(kind)
        for percent in (10, 50, 90):
            yield f"{kind} cut at {percent} %", data[: len(data) * percent // 100]
    for kind, num_bytes in (("PNG", 8), ("PNG", 20), ("JPEG", 3), ("JPEG", 20), ("GIF", 6)):
        yield f"{kind} of {num_bytes} bytes", picture(kind)[:num_bytes]
    yield "GIF of 13 bytes", picture("GIF")[:13]
    yield "WebP of 16 bytes", picture("WEBP")[:16]
    for kind, num_bytes in (("PNG", 60), ("JPEG", 60), ("GIF", 800)):
        yield f"{kind} with a body of noise", picture(kind)[:num_bytes] + noise(30, 30).tobytes()


def _rows(**options: int) -> bytes:
    return chunk(b"IDAT", flat_rows(SIDE, SIDE, **options))


def _png_chunks() -> Iterator[Named]:
    head, rows = ihdr(SIDE, SIDE), _rows()
    crc_of_other = ihdr(SIDE, SIDE + 1)[-4:]
    broken = {
        "no header": assembled(rows, END),
        "no header and no rows": assembled(END),
        "header after the rows": assembled(rows, head, END),
        "no rows": assembled(head, END),
        "nothing after the header": assembled(head),
        "empty rows": assembled(head, chunk(b"IDAT"), END),
        "header with a wrong check sum": assembled(head[:-4] + crc_of_other, rows, END),
        "rows of noise": assembled(head, chunk(b"IDAT", bytes(range(256))), END),
        "rows that need a dictionary": assembled(
            head, chunk(b"IDAT", b"\x78\xbb" + bytes(20)), END
        ),
        "an unknown filter": assembled(head, chunk(b"IDAT", zlib.compress(b"\x09" * 1700)), END),
        "3 bits per sample": assembled(ihdr(SIDE, SIDE, 3), rows, END),
        "colour type 5": assembled(ihdr(SIDE, SIDE, 8, 5), rows, END),
        "16 bits of palette": assembled(ihdr(SIDE, SIDE, 16, PALETTE), rows, END),
        "interlace 7": assembled(ihdr(SIDE, SIDE, interlace=7), rows, END),
        "a chunk without a name": assembled(head, chunk(bytes(4), b"x"), rows, END),
    }
    for name, data in broken.items():
        yield f"PNG: {name}", data


def _jpeg_markers() -> Iterator[Named]:
    data = picture("JPEG")
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    broken = {
        "start and end only": b"\xff\xd8\xff\xd9",
        "start and padding": b"\xff\xd8" + b"\xff" * 100_000,
        "no frame": data[:frame] + data[scan:],
        "no scan": data[:scan] + b"\xff\xd9",
        "no tables": data[:2] + data[frame : frame + 19] + data[scan:],
        "no components": _patched(data, frame + 9, b"\0"),
        "255 components": _patched(data, frame + 9, b"\xff"),
        "0 bits per sample": _patched(data, frame + 4, b"\0"),
        "sampling factors of 0": _patched(data, frame + 11, b"\0"),
        "a segment longer than the file": data[:2] + b"\xff\xe0\xff\xff" + data[2:],
        "a table that does not exist": _patched(data, data.index(b"\xff\xc4") + 4, b"\x77"),
        "noise after the start": b"\xff\xd8\xff" + bytes(range(256)) * 20,
    }
    for name, content in broken.items():
        yield f"JPEG: {name}", content


def _webp_blocks() -> Iterator[Named]:
    lossy, lossless = picture("WEBP"), picture("WEBP", lossless=True)
    extended = struct.pack("<I", 0) + b"\x3f\0\0\x2f\0\0"
    broken = {
        "no block": riff(),
        "an unknown block": riff((b"ABCD", bytes(40))),
        "a header without a picture": riff((b"VP8X", extended)),
        "frames announced, none there": riff((b"VP8X", b"\2" + extended[1:]), (b"ANIM", bytes(6))),
        "a lossless block of another kind": _patched(lossless, 20, b"\x30"),
        "a lossy block of another kind": _patched(lossy, 23, b"\0\0\0"),
        "a lossy block of zeros": riff((b"VP8 ", lossy[20:30] + bytes(200))),
        "a lossless block of zeros": riff((b"VP8L", lossless[20:25] + bytes(3))),
    }
    for name, data in broken.items():
        yield f"WebP: {name}", data


def _gif_blocks() -> Iterator[Named]:
    data = picture("GIF")
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    frame = data.index(b",", start)
    broken = {
        "no picture": data[:frame] + b";",
        "no end": data[:start],
        "a comment that never ends": data[:start] + b"!\xfe" + b"\xffx" * 5000,
        "stray bytes only": data[:start] + bytes(5000),
        "code size 255": _patched(data, frame + 10, b"\xff"),
        "code size 13": _patched(data, frame + 10, b"\x0d"),
        "no data after the frame": data[: frame + 11] + b"\0;",
    }
    for name, content in broken.items():
        yield f"GIF: {name}", content


def _doubtful() -> Iterator[Named]:
    whole = picture("PNG")
    head, *rest = chunks_of(whole)
    rows = flat_rows(SIDE, SIDE)
    yield "PNG without its end", whole[:-12]
    yield "PNG cut in its end", whole[:-3]
    yield (
        "PNG with a wrong Adler sum",
        assembled(ihdr(SIDE, SIDE), chunk(b"IDAT", rows[:-4] + b"abcd"), END),
    )
    yield (
        "PNG with too many rows",
        assembled(ihdr(SIDE, SIDE), chunk(b"IDAT", flat_rows(SIDE, 3 * SIDE)), END),
    )
    head_40, row_chunk = ihdr(SIDE, SIDE), _rows()
    yield (
        "PNG with half of its rows",
        assembled(head_40, chunk(b"IDAT", flat_rows(SIDE, SIDE // 2)), END),
    )
    for name, length in (("longer than the file", 2**31 - 1), ("of negative length", 2**32 - 1)):
        lie = struct.pack(">I", length) + row_chunk[4:]
        yield f"PNG with a chunk {name}", assembled(head_40, lie)
    yield "PNG with a wrong check sum of rows", assembled(head_40, row_chunk[:-4] + b"abcd", END)
    yield "PNG with a header twice", assembled(head, head, *rest)
    yield "PNG with two ends", whole + END
    for size in (0, 1, 7, 3000):
        palette = chunk(b"PLTE", bytes(size))
        yield (
            f"PNG with a palette of {size} bytes",
            assembled(ihdr(SIDE, SIDE, 8, PALETTE), palette, _rows(), END),
        )
    yield "PNG without a palette", assembled(ihdr(SIDE, SIDE, 8, PALETTE), _rows(), END)
    for name, extra in _frames().items():
        yield f"PNG, {name}", PNG_SIGNATURE + head + extra + b"".join(rest)
    yield "JPEG with its frame twice", _frame_twice()
    data = picture("JPEG")
    scan = data.index(b"\xff\xda")
    yield "JPEG with an empty scan", data[: scan + 14] + b"\xff\xd9"
    yield "JPEG with a segment of length 0", data[:2] + b"\xff\xe0\0\0" + data[2:]
    yield "WebP with a body of noise", picture("WEBP")[:60] + noise(30, 30).tobytes()
    yield "JPEG cut at 99 %", _cut_at_99("JPEG")
    yield "WebP cut at 99 %", _cut_at_99("WEBP")
    yield "WebP with a wrong length", _patched(picture("WEBP"), 4, b"\xff\xff\xff\x7f")
    yield "GIF without its end", picture("GIF")[:-1]
    yield "GIF with code size 1", _gif_code_size_1()


def _frames() -> dict[str, bytes]:
    control = struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 10, 0, 0)
    far = struct.pack(">IIIIIHHBB", 0, 64, 48, 2**31 - 1, 2**31 - 1, 1, 10, 0, 0)
    count = chunk(b"acTL", struct.pack(">II", 2, 0))
    return {
        "no frames announced": chunk(b"acTL", struct.pack(">II", 0, 0)),
        "short frame count": chunk(b"acTL", b"\0"),
        "frame count twice": count + count,
        "frame control without a count": chunk(b"fcTL", control),
        "frame far outside": count + chunk(b"fcTL", far),
        "short frame control": count + chunk(b"fcTL", control[:9]),
        "frame data without control": count + chunk(b"fdAT", bytes(30)),
    }


def _frame_twice() -> bytes:
    data = picture("JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 19] + data[frame:]


def _gif_code_size_1() -> bytes:
    data = picture("GIF")
    frame = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    return _patched(data, frame + 10, b"\1")


def _cut_at_99(kind: str) -> bytes:
    data = encode(noise(200, 150), kind)
    return data[: len(data) * 99 // 100]


def _flipped() -> Iterator[Named]:
    for kind in KINDS:
        data = png(64, 48) if kind == "PNG" else picture(kind)
        for seed in range(12):
            yield f"{kind} with flipped bytes, {seed}", flipped(data, seed)


def _patched(data: bytes, position: int, content: bytes) -> bytes:
    return data[:position] + content + data[position + len(content) :]
