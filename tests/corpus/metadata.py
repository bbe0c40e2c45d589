"""Good pictures with odd things beside the pixels: orientation, places, profiles, texts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from tests.corpus.images import (
    PNG_SIGNATURE,
    Groups,
    Named,
    chunk,
    chunks_of,
    exif,
    picture,
    with_exif,
)

ORIENTATION, X_RESOLUTION, GPS, MAKER = 0x0112, 0x011A, 0x8825, 0x927C


def groups() -> Groups:
    """Files by the statuses they may get."""
    yield {200}, _orientations()
    yield {200}, _broken_blocks()
    yield {200}, _profiles_and_texts()
    yield {200}, _bombs()


def _orientations() -> Iterator[Named]:
    for value in range(11):
        yield f"JPEG, orientation {value}", with_exif(exif({ORIENTATION: value}))
    for kind in ("PNG", "WEBP"):
        for value in (3, 6, 9):
            yield f"{kind}, orientation {value}", with_exif(exif({ORIENTATION: value}), kind)
    yield "JPEG, orientation 65535", with_exif(exif({ORIENTATION: 65535}))
    yield "JPEG, orientation as text", with_exif(_tag(ORIENTATION, 2, 2, b"6\0\0\0"))
    yield "JPEG, orientation twice in one tag", with_exif(_tag(ORIENTATION, 3, 2, b"\6\0\3\0"))
    yield "JPEG, orientation as a fraction by 0", with_exif(_tag(ORIENTATION, 5, 1, b"\x1a\0\0\0"))
    place = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
    yield "JPEG that tells a place", with_exif(exif({ORIENTATION: 6, GPS: place}))


def _broken_blocks() -> Iterator[Named]:
    head = b"Exif\0\0"
    blocks = {
        "empty": b"",
        "header only": head,
        "noise": head + bytes(range(7, 200)),
        "no directory": head + b"II*\0\xff\xff\xff\x7f",
        "directory that contains itself": head + b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "directory of 65535 tags": head + b"II*\0\x08\0\0\0\xff\xff",
        "tag of 2^32 values": _tag(MAKER, 7, 2**32 - 1, b"\x08\0\0\0"),
        "tag of an unknown type": _tag(MAKER, 99, 1, b"\0\0\0\0"),
        "places that point to themselves": _tag(GPS, 4, 1, b"\x08\0\0\0"),
        "resolution by 0": _tag(X_RESOLUTION, 5, 1, b"\x1a\0\0\0"),
    }
    for name, block in blocks.items():
        yield f"JPEG, EXIF: {name}", _with_app1(block)
    yield "JPEG, EXIF twice", _with_app1(exif({ORIENTATION: 3}), exif({ORIENTATION: 6}))
    yield "PNG, EXIF: noise", with_exif(head + bytes(range(7, 200)), "PNG")
    yield "WebP, EXIF: noise", with_exif(head + bytes(range(7, 200)), "WEBP")


def _profiles_and_texts() -> Iterator[Named]:
    for kind in ("JPEG", "PNG", "WEBP"):
        yield f"{kind}, broken colour profile", picture(kind, icc_profile=bytes(range(200)))
    yield "JPEG, comments of 1 MB", _with_segments(*[(0xFE, b"<script>" * 8000)] * 16)
    yield "JPEG, comment that is a page", _with_segments((0xFE, b"<script>alert(1)</script>"))
    yield "PNG, text of 1 MB", _with_chunks(chunk(b"tEXt", b"Comment\0" + b"x" * 10**6))
    yield "PNG, 2000 texts", _with_chunks(*[chunk(b"tEXt", b"Comment\0x")] * 2000)
    yield "PNG, unknown chunk", _with_chunks(chunk(b"abCd", bytes(1000)))
    yield "PNG, resolution 0", _with_chunks(chunk(b"pHYs", bytes(9)))
    yield "PNG, gamma 0", _with_chunks(chunk(b"gAMA", bytes(4)))


def _bombs() -> Iterator[Named]:
    bomb = zlib.compress(bytes(50_000_000), 9)
    yield "PNG, packed text of 50 MB", _with_chunks(chunk(b"zTXt", b"Comment\0\0" + bomb))
    international = b"Comment\0\1\0\0\0" + bomb
    yield "PNG, packed international text of 50 MB", _with_chunks(chunk(b"iTXt", international))
    yield "PNG, packed profile of 50 MB", _with_chunks(chunk(b"iCCP", b"p\0\0" + bomb))


def _tag(tag: int, kind: int, count: int, value: bytes) -> bytes:
    """An EXIF block of one tag, then a fraction 1/0 at offset 26."""
    entry = struct.pack("<HHI", tag, kind, count) + value
    directory = struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + struct.pack("<II", 1, 0)


def _with_segments(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with these segments after its first."""
    data = picture("JPEG")
    end = 4 + int.from_bytes(data[4:6], "big")
    made = b"".join(
        bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    )
    return data[:end] + made + data[end:]


def _with_app1(*blocks: bytes) -> bytes:
    return _with_segments(*((0xE1, block) for block in blocks))


def _with_chunks(*chunks: bytes) -> bytes:
    """A PNG with these chunks after its header."""
    head, *rest = chunks_of(picture("PNG"))
    return PNG_SIGNATURE + b"".join((head, *chunks, *rest))
