"""Sizes promised by formats that keep them in a tree: directories of TIFF, boxes of AVIF.

Byte arithmetic as in `image_header.py`, which says why. What makes no sense raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# Entries of a directory, boxes in a box: more is no picture that anyone made.
MAX_STEPS = 10_000
_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_TURNED = (5, 6, 7, 8)
_WHOLE_NUMBERS = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes by type


def tiff_size(data: bytes) -> tuple[int, int]:
    """Of the first picture, upright: so Pillow gives it."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    is_big = 43 in data[2:4]  # 64-bit offsets
    start = _number(data, 8 if is_big else 4, 8 if is_big else 4, order)
    count_bytes, entry_bytes, value_at = (8, 20, 12) if is_big else (2, 12, 8)
    num_entries = _number(data, start, count_bytes, order)
    if num_entries > MAX_STEPS:
        raise ValueError
    found: dict[int, int] = {}
    for index in range(num_entries):
        entry = start + count_bytes + index * entry_bytes
        num_bytes = _WHOLE_NUMBERS.get(_number(data, entry + 2, 2, order))
        if num_bytes is not None:
            found[_number(data, entry, 2, order)] = _number(
                data, entry + value_at, num_bytes, order
            )
    try:
        width, height = found[_WIDTH], found[_HEIGHT]
    except KeyError:
        raise ValueError from None
    return (height, width) if found.get(_ORIENTATION) in _TURNED else (width, height)


def avif_size(data: bytes) -> tuple[int, int]:
    """Of the primary item."""
    meta = _only(data, _Box(b"", 0, len(data)), b"meta", 0)
    primary = _only(data, meta, b"pitm", 4)
    id_bytes = 2 if data[primary.start] == 0 else 4
    item = _number(data, primary.start + 4, id_bytes)
    properties = _only(data, meta, b"iprp", 4)
    sizes = list(_boxes(data, _only(data, properties, b"ipco", 0), 0))
    for table in _boxes(data, properties, 0):
        if table.kind == b"ipma":
            for index in _associated(data, table, item):
                if 0 < index <= len(sizes) and sizes[index - 1].kind == b"ispe":
                    start = sizes[index - 1].start + 4
                    return _number(data, start, 4), _number(data, start + 4, 4)
    raise ValueError


@dataclass(frozen=True, slots=True)
class _Box:
    """Where its content lies in the file."""

    kind: bytes
    start: int
    end: int


def _boxes(data: bytes, parent: _Box, skip: int) -> Iterator[_Box]:
    """What lies in a box. skip: bytes before the first, as version and flags."""
    position = parent.start + skip
    for _ in range(MAX_STEPS):
        if position + 8 > parent.end:
            return
        length, head = _number(data, position, 4), 8
        if length == 1:
            length, head = _number(data, position + 8, 8), 16
        end = parent.end if length == 0 else position + length
        if end > parent.end or end < position + head:
            # the pixels of a file that was cut come last, and are not looked for here
            return
        yield _Box(data[position + 4 : position + 8], position + head, end)
        position = end


def _only(data: bytes, parent: _Box, kind: bytes, skip: int) -> _Box:
    for box in _boxes(data, parent, skip):
        if box.kind == kind:
            return box
    raise ValueError


def _associated(data: bytes, table: _Box, item: int) -> list[int]:
    """Numbers of the properties of one item, from 1."""
    id_bytes = 2 if data[table.start] == 0 else 4
    index_bytes = 2 if data[table.start + 3] & 1 else 1
    position = table.start + 8
    for _ in range(min(_number(data, table.start + 4, 4), MAX_STEPS)):
        found = _number(data, position, id_bytes)
        count = data[position + id_bytes]
        position += id_bytes + 1
        if found == item:
            ends = range(position, position + count * index_bytes, index_bytes)
            essential = 1 << (8 * index_bytes - 1)
            return [_number(data, at, index_bytes) & (essential - 1) for at in ends]
        position += count * index_bytes
    return []


def _number(
    data: bytes, start: int, num_bytes: int, order: Literal["little", "big"] = "big"
) -> int:
    piece = data[start : start + num_bytes]
    if len(piece) < num_bytes:
        raise ValueError
    return int.from_bytes(piece, order)
