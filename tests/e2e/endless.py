"""The embedded checkpoint without its end: the same model, but answers run to `max_tokens`.

Tests of what happens in the middle of an answer need one that is long enough to have a middle.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "embedded"
WEIGHTS = "model.safetensors"
HEAD = "diffusion_head.weight"
END_ID, NEVER_ID = 11, 99  # <|im_end|>, and a reserved id that is never chosen
_LENGTH = struct.Struct("<Q")


def write_endless_checkpoint(folder: Path) -> Path:
    """Fill `folder`: links to the embedded files, and weights in which the end of an answer is as
    unlikely as a reserved id."""
    for path in EMBEDDED.iterdir():
        if path.name != WEIGHTS:
            (folder / path.name).symlink_to(path)
    data = bytearray((EMBEDDED / WEIGHTS).read_bytes())
    (header_len,) = _LENGTH.unpack_from(data)
    start = _LENGTH.size + header_len
    head = json.loads(data[_LENGTH.size : start])[HEAD]
    first, last = head["data_offsets"]
    row_bytes = (last - first) // head["shape"][0]

    def row(token_id: int) -> slice:
        begin = start + first + token_id * row_bytes
        return slice(begin, begin + row_bytes)

    data[row(END_ID)] = data[row(NEVER_ID)]
    (folder / WEIGHTS).write_bytes(data)
    return folder
