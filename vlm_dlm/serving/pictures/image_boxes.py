"""Sizes promised by formats that keep them in a tree: directories of TIFF, boxes of AVIF.

Byte arithmetic as in `image_header.py`, which says why. What makes no sense raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vlm_dlm.serving.pictures.image_bytes import ImageBytes

_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_TURNED = (5, 6, 7, 8)
_WHOLE_NUMBERS = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes by type


def tiff_size(data: ImageBytes) -> tuple[int, int]:
    """Of the first picture, upright: so Pillow gives it."""
    order: Literal["little", "big"] = "little" if data.piece(0, 2) == b"II" else "big"
    is_big = 43 in data.piece(2, 2)  # 64-bit offsets
    start = data.number(8 if is_big else 4, 8 if is_big else 4, order)
    count_bytes, entry_bytes, value_at = (8, 20, 12) if is_big else (2, 12, 8)
    found: dict[int, int] = {}
    for index in range(data.number(start, count_bytes, order)):
        entry = start + count_bytes + index * entry_bytes
        num_bytes = _WHOLE_NUMBERS.get(data.number(entry + 2, 2, order))
        if num_bytes is not None:
            found[data.number(entry, 2, order)] = data.number(entry + value_at, num_bytes, order)
    try:
        width, height = found[_WIDTH], found[_HEIGHT]
    except KeyError:
        raise ValueError from None
    return (height, width) if found.get(_ORIENTATION) in _TURNED else (width, height)


def avif_size(data: ImageBytes) -> tuple[int, int]:
    """Of the primary item."""
    meta = _only(data, _Box(b"", 0, len(data)), b"meta", 0)
    primary = _only(data, meta, b"pitm", 4)
    item = data.big(primary.start + 4, 2 if data.big(primary.start) == 0 else 4)
    properties = _only(data, meta, b"iprp", 4)
    sizes = list(_boxes(data, _only(data, properties, b"ipco", 0), 0))
    for table in _boxes(data, properties, 0):
        if table.kind == b"ipma":
            for index in _associated(data, table, item):
                if 0 < index <= len(sizes) and sizes[index - 1].kind == b"ispe":
                    start = sizes[index - 1].start + 4
                    return data.big(start, 4), data.big(start + 4, 4)
    raise ValueError


@dataclass(frozen=True, slots=True)
class _Box:
    """Where its content lies in the file."""

    kind: bytes
    start: int
    end: int


def _boxes(data: ImageBytes, parent: _Box, skip: int) -> Iterator[_Box]:
    """What lies in a box. skip: bytes before the first, as version and flags."""
    position = parent.start + skip
    while position + 8 <= parent.end:
        length, head = data.big(position, 4), 8
        if length == 1:
            length, head = data.big(position + 8, 8), 16
        end = parent.end if length == 0 else position + length
        if end > parent.end or end < position + head:
            # the pixels of a file that was cut come last, and are not looked for here
            return
        yield _Box(data.piece(position + 4, 4), position + head, end)
        position = end


def _only(data: ImageBytes, parent: _Box, kind: bytes, skip: int) -> _Box:
    for box in _boxes(data, parent, skip):
        if box.kind == kind:
            return box
    raise ValueError


def _associated(data: ImageBytes, table: _Box, item: int) -> list[int]:
    """Numbers of the properties of one item, from 1."""
    id_bytes = 2 if data.big(table.start) == 0 else 4
    index_bytes = 2 if data.big(table.start + 3) & 1 else 1
    position = table.start + 8
    for _ in range(data.big(table.start + 4, 4)):
        found = data.big(position, id_bytes)
        count = data.big(position + id_bytes)
        position += id_bytes + 1
        if position + count * index_bytes > table.end:
            raise ValueError
        if found == item:
            ends = range(position, position + count * index_bytes, index_bytes)
            essential = 1 << (8 * index_bytes - 1)
            return [data.big(at, index_bytes) & (essential - 1) for at in ends]
        position += count * index_bytes
    return []
