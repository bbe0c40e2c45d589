"""Files that other programs show although a strict decoder would not.

A limit that only concerns texts beside the pixels is no damage of the pixels, and neither is a
missing end mark. What lacks pixels stays refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from math import ceil

import numpy as np
from PIL import Image

_PNG_START = 8
_DROPPED = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
# Where some programs put the orientation.
_KEPT_KEYWORDS = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"XML:com.adobe.xmp\0")
_MAX_KEPT = 4
_MAX_TEXT_BYTES = 2**20  # unpacked; Pillow's own limit
_END_OF_JPEG = b"\xff\xd9"
_STRIP_ROWS = 256
# Two rows of the largest blocks, and what smoothing carries over; of the picture as it is stored.
_MAX_DOUBTFUL_ROWS = 34
_MAX_MISSING_SHARE = 0.01
# What no encoder wrote: where it changes pixels, data was missing. 0xFF would be a marker.
_NOISE = np.random.default_rng(0).integers(0, 255, 2**19, dtype=np.uint8).tobytes()


def without_texts(png: bytes) -> bytes:
    """The PNG without texts and colour profile, which a picture does not need and which can be
    larger than a decoder takes. Where its chunks make no sense the rest is left as it is."""
    pieces: list[bytes] = []
    copied = num_kept = 0
    for start, end in _chunks(png):
        kind = png[start + 4 : start + 8]
        if kind not in _DROPPED:
            continue
        if num_kept < _MAX_KEPT and _is_orientation(kind, png[start + 8 : end - 4]):
            num_kept += 1
            continue
        pieces.append(png[copied:start])
        copied = end
    return b"".join((*pieces, png[copied:])) if pieces else png


def _chunks(png: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole chunk before the pixels' end."""
    start = _PNG_START
    while start + 12 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        if end > len(png):
            return
        yield start, end
        start = end


def _is_orientation(kind: bytes, content: bytes) -> bool:
    """Whether a text may tell the orientation and is small enough for every decoder."""
    if kind == b"iCCP" or not content.startswith(_KEPT_KEYWORDS):
        return False
    packed = content[content.index(b"\0") + 2 :]
    if kind == b"iTXt":
        packed = packed[1:].split(b"\0", 2)[-1]
    if kind == b"tEXt" or (kind == b"iTXt" and content[content.index(b"\0") + 1] == 0):
        return len(content) <= _MAX_TEXT_BYTES
    try:
        unpacker = zlib.decompressobj()
        unpacker.decompress(packed, _MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return not unpacker.unconsumed_tail


def lacks_end(jpeg: bytes) -> bool:
    """Whether nothing marks the end of a JPEG."""
    return _END_OF_JPEG not in jpeg[-64:]


def mended_jpeg(
    jpeg: bytes, height: int, load: Callable[[bytes], Image.Image]
) -> Image.Image | None:
    """The picture of a JPEG that lacks its end, or None where pixels are missing as well: more
    than a hundredth of all, or others than in the last rows.

    A decoder does not tell what it made up. So the end is decoded twice, with nothing and with
    noise in the place of what is missing: pixels that come out alike were all there.

    height: of the picture as it is stored. load: a whole file to its pixels, maybe fewer than are
    stored; may raise anything.
    """
    body = jpeg[:-1] if jpeg.endswith(b"\xff") else jpeg
    picture = load(body + _END_OF_JPEG)
    other = load(body + _NOISE + _END_OF_JPEG)
    doubtful_rows = ceil(_MAX_DOUBTFUL_ROWS * picture.height / height)
    num_different = 0
    for top in range(0, picture.height, _STRIP_ROWS):
        box = (0, top, picture.width, min(top + _STRIP_ROWS, picture.height))
        ours, theirs = (np.asarray(one.crop(box)) for one in (picture, other))
        different = (ours != theirs).reshape(*ours.shape[:2], -1).any(axis=2)  # [rows, width]
        rows = np.flatnonzero(different.any(axis=1))
        if rows.size and top + rows[0] < picture.height - doubtful_rows:
            return None
        num_different += int(different.sum())
    is_whole = num_different <= _MAX_MISSING_SHARE * picture.width * picture.height
    return picture if is_whole else None
