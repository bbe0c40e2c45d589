"""Numbers out of a file that nobody trusts, with one budget for all of them."""

from __future__ import annotations

from typing import Literal

# Of one file, in all loops together, also those inside one another: a few milliseconds. The
# largest header of a real picture takes some hundreds.
MAX_READS = 4_000


class ImageBytes:
    """Every look into the file is counted. All methods raise ValueError after its end, and once
    MAX_READS are spent: such a file is no picture that anyone made."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._num_left = MAX_READS

    def __len__(self) -> int:
        return len(self._data)

    def piece(self, start: int, num_bytes: int) -> bytes:
        self._num_left -= 1
        found = self._data[start : start + num_bytes]
        if self._num_left < 0 or len(found) < num_bytes:
            raise ValueError
        return found

    def big(self, start: int, num_bytes: int = 1) -> int:
        return int.from_bytes(self.piece(start, num_bytes), "big")

    def little(self, start: int, num_bytes: int = 1) -> int:
        return int.from_bytes(self.piece(start, num_bytes), "little")

    def number(self, start: int, num_bytes: int, order: Literal["little", "big"]) -> int:
        return int.from_bytes(self.piece(start, num_bytes), order)

    def count(self, mark: bytes) -> int:
        """How often it is in the file."""
        return self._data.count(mark)

    def find(self, mark: bytes, start: int) -> int:
        """Where the next such mark begins."""
        self._num_left -= 1
        if self._num_left < 0:
            raise ValueError
        return self._data.index(mark, start)
