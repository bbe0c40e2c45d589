"""Image files made by hand, byte by byte where an encoder would refuse to make them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

# A file and what it is; files by the statuses that a route may answer with.
Named = tuple[str, bytes]
Groups = Iterator[tuple[set[int], Iterable[Named]]]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of random colours."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file of that format."""
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(kind: str = "PNG", width: int = 64, height: int = 48, **options: Any) -> bytes:
    """A small file without faults."""
    return encode(noise(width, height), kind, **options)


def chunk(kind: bytes, content: bytes = b"", crc: int | None = None) -> bytes:
    """One PNG chunk. crc: None for the right one."""
    check = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def ihdr(width: int, height: int, depth: int = 8, color: int = GREY, interlace: int = 0) -> bytes:
    """The PNG header chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))


def flat_rows(width: int, height: int, depth: int = 8, color: int = GREY) -> bytes:
    """Compressed rows of zeros, made piece by piece: the picture itself never exists."""
    row = bytes(1 + (width * depth * _CHANNELS[color] + 7) // 8)
    packer = zlib.compressobj(9)
    pieces = [packer.compress(row) for _ in range(height)]
    return b"".join(pieces) + packer.flush()


def png(width: int, height: int, depth: int = 8, color: int = GREY) -> bytes:
    """A black PNG of any size."""
    rows = chunk(b"IDAT", flat_rows(width, height, depth, color))
    return PNG_SIGNATURE + ihdr(width, height, depth, color) + rows + chunk(b"IEND")


def assembled(*chunks: bytes) -> bytes:
    """A PNG of these chunks, whatever they are."""
    return PNG_SIGNATURE + b"".join(chunks)


def chunks_of(data: bytes) -> list[bytes]:
    """The chunks of a faultless PNG, to be put together in other ways."""
    found: list[bytes] = []
    position = len(PNG_SIGNATURE)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big") + 12
        found.append(data[position : position + length])
        position += length
    return found


def animation(kind: str, num_frames: int, side: int = 32) -> bytes:
    """A file of different frames."""
    frames = [noise(side, side, seed) for seed in range(num_frames)]
    rest = {"save_all": True, "append_images": frames[1:], "duration": 20}
    return _without_times(encode(frames[0], kind, **rest))


def _without_times(data: bytes) -> bytes:
    """An encoder of AVIF writes when it did so: two times of 8 bytes, after version and flags."""
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        head, found, rest = data.partition(box)
        data = head + found + rest[:4] + bytes(16) + rest[20:] if found else data
    return data


def long_gif(num_frames: int, side: int = 32) -> bytes:
    """A GIF of many tiny frames, written by hand because an encoder takes long."""
    first = encode(Image.new("P", (side, side)), "GIF")
    head, image = first[: first.index(b",")], first[first.index(b",") : -1]
    return head + b"".join(image for _ in range(num_frames)) + b";"


def apng_with_frame_count(num_frames: int) -> bytes:
    """An animated PNG that announces more frames than it has."""
    head, *rest = chunks_of(png(32, 32))
    return assembled(head, chunk(b"acTL", struct.pack(">II", num_frames, 0)), *rest)


def jpeg_scans(num_scans: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encode(noise(side, side), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * num_scans + b"\xff\xd9"


def with_exif(raw: bytes, kind: str = "JPEG") -> bytes:
    """A picture with this EXIF block, right or wrong."""
    return picture(kind, exif=raw)


def exif(entries: dict[int, Any]) -> bytes:
    """An EXIF block that holds these tags."""
    block = Image.Exif()
    for tag, value in entries.items():
        block[tag] = value
    return block.tobytes()


def tiff(
    width: int,
    height: int,
    photometric: int,
    bits: tuple[int, int, int],
    pixels: bytes,
    subsampling: tuple[int, int] = (1, 1),
) -> bytes:
    """Three values for each pixel, unpacked, in one strip. photometric: 2 RGB, 6 YCbCr, 8 LAB."""
    data_at = 8 + 2 + 10 * 12 + 4 + 6
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, data_at - 6),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, data_at),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
        (530, 3, 2, subsampling[0] | subsampling[1] << 16),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + directory + bytes(4) + struct.pack("<3H", *bits) + pixels


def flipped(data: bytes, seed: int, num_bytes: int = 3) -> bytes:
    """The file with some bytes after its signature replaced by others."""
    generator = np.random.default_rng(seed)
    changed = bytearray(data)
    for position in generator.integers(12, len(data), num_bytes):
        changed[position] ^= int(generator.integers(1, 256))
    return bytes(changed)


def riff(*blocks: tuple[bytes, bytes]) -> bytes:
    """A WebP container of these blocks."""
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in blocks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
