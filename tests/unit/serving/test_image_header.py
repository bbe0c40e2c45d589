"""What a header costs to read: never more than a few milliseconds, whatever its bytes say."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.corpus.images import animation, flipped, picture
from vlm_dlm.errors import ImageError
from vlm_dlm.serving.pictures.image_header import header_size, is_progressive

# Lines of Python, each a microsecond at most, far above what a real picture takes.
MAX_LINES = 60_000
NUM_SEEDS = 30
HOSTILE_BYTES = (0, 1, 2, 0x21, 0x2C, 0x7F, 0xFE, 0xFF)
SIZES = {
    "JPEG": picture("JPEG", 24, 20),
    "progressive JPEG": picture("JPEG", 24, 20, progressive=True),
    "PNG": picture("PNG", 24, 20),
    "WebP": picture("WEBP", 24, 20),
    "GIF": picture("GIF", 24, 20),
    "BMP": picture("BMP", 24, 20),
    "TIFF": picture("TIFF", 24, 20, compression="tiff_lzw"),
    "AVIF": picture("AVIF", 24, 20),
    "moving GIF": animation("GIF", 3),
}


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _avif(properties: bytes, primary: int = 7) -> bytes:
    item = _box(b"pitm", struct.pack(">IH", 0, primary))
    meta = _box(b"meta", bytes(4) + item + _box(b"iprp", properties))
    return _box(b"ftyp", b"avif\0\0\0\0avifmif1") + meta


def _many_tables(num: int) -> bytes:
    """Each announces all the entries that there can be, which lie after it."""
    table = _box(b"ipma", bytes(4) + b"\xff" * 4)
    return _avif(_box(b"ipco", b"") + table * num) + bytes(2**18)


def _long_tables(num: int) -> bytes:
    table = _box(b"ipma", struct.pack(">II", 0, 2**32 - 1) + bytes(3 * 1_000))
    return _avif(_box(b"ipco", b"") + table * num)


def _many_sizes(num: int) -> bytes:
    """All belong to the item, and none is a size."""
    sizes = _box(b"ipco", _box(b"free", b"") * num)
    indexes = struct.pack(">IIHB", 0, 1, 7, 255) + bytes(255)
    return _avif(sizes + _box(b"ipma", indexes) * num)


HOSTILE = {
    "AVIF of many tables": _many_tables(9_000),
    "AVIF of long tables": _long_tables(5_000),
    "AVIF of many properties": _many_sizes(9_000),
    "AVIF of empty boxes": _avif(_box(b"free", b"") * 10**6),
    "GIF of one-byte blocks": SIZES["GIF"][:13] + b"\x21\xf9" + b"\x01\x01" * 10**7,
    "GIF of empty extensions": SIZES["GIF"][:13] + b"\x21\xf9\0" * 10**6,
    "GIF of stray bytes": SIZES["GIF"][:13] + bytes(2 * 10**7),
    "JPEG of padding": b"\xff\xd8" + b"\xff" * 10**6,
    "JPEG of empty segments": b"\xff\xd8\xff" + b"\xff\xe0\0\2" * 10**6,
    "JPEG of stray bytes": b"\xff\xd8\xff\xe0\0\2" + bytes(2 * 10**7),
    "JPEG of false marks": b"\xff\xd8\xff" + b"\xff\0" * 10**6,
    "TIFF of many entries": b"II*\0\x08\0\0\0\xff\xff" + b"\x09\0\4\0\1\0\0\0\1\0\0\0" * 65_535,
    "BigTIFF of many entries": b"II+\0\x08\0\0\0\x10" + bytes(7) + b"\xff" * 7 + bytes(10**6),
}


def _num_lines(use: Callable[[], Any]) -> int:
    """Lines run in the modules that read headers."""
    num = 0

    def count(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal num
        if "/pictures/image_" not in frame.f_code.co_filename:
            return None
        num += event == "line"
        if num > 2 * MAX_LINES:
            raise AssertionError("the walk does not end")
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        use()
    except ImageError:
        pass
    finally:
        sys.settrace(before)
    return num


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_of_many_parts_is_refused_after_a_few_steps(name: str) -> None:
    data = HOSTILE[name]
    assert 0 < _num_lines(lambda: header_size(data)) < MAX_LINES
    assert _num_lines(lambda: is_progressive(data)) < MAX_LINES
    with pytest.raises(ImageError, match="damaged or cut short"):
        header_size(data)


@pytest.mark.parametrize("name", SIZES)
def test_changed_headers_cost_a_few_steps(name: str) -> None:
    """Bytes changed at random, and to those that make lengths and counts large or nothing."""
    data = SIZES[name]
    for seed in range(NUM_SEEDS):
        chance = random.Random(seed)
        hostile = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            hostile[chance.randrange(4, min(len(data), 400))] = chance.choice(HOSTILE_BYTES)
        tail = bytes(chance.choices(HOSTILE_BYTES, k=64)) * 2_000
        for changed in (flipped(data, seed), bytes(hostile), bytes(hostile[:200]) + tail):
            assert _num_lines(lambda changed=changed: header_size(changed)) < MAX_LINES


def test_the_steps_of_a_picture_are_a_small_part_of_the_budget() -> None:
    for data in SIZES.values():
        assert _num_lines(lambda data=data: header_size(data)) < MAX_LINES / 20


def test_a_picture_with_long_texts_before_its_pixels_is_measured() -> None:
    """Comments of a megabyte, a colour profile in many pieces: unusual and sound."""
    gif = SIZES["GIF"]
    comments = b"\x21\xfe" + (b"\xff" + bytes(255)) * 3_000 + b"\0"
    start = 13 + (3 << ((gif[10] & 7) + 1))  # after its palette
    assert header_size(gif[:start] + comments + gif[start:]) == (24, 20)
    jpeg = SIZES["JPEG"]
    pieces = (b"\xff\xe2\xff\xff" + bytes(65_533)) * 255
    assert header_size(jpeg[:2] + pieces + jpeg[2:]) == (24, 20)


def test_entries_after_the_end_of_their_table_are_not_read() -> None:
    size = _box(b"ipco", _box(b"ispe", struct.pack(">III", 0, 640, 480)))
    entry = struct.pack(">HBB", 7, 1, 1)
    whole = _avif(size + _box(b"ipma", struct.pack(">II", 0, 1) + entry))
    assert header_size(whole) == (640, 480)
    with pytest.raises(ImageError, match="damaged"):
        header_size(_avif(size + _box(b"ipma", struct.pack(">II", 0, 1)) + entry))
