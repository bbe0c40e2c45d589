"""Which pages of the cache belong to whom. Plain Python, so that a scheduler needs no torch.

A page is `page_size` consecutive slots; a slot holds the keys and values of one token in all
layers. A request takes all pages of its worst case when it is admitted, so a running request can
never find the cache full, and they lie in a row wherever such a gap is free: rows of adjacent slots
are attended where they lie, others must be gathered first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PageAllocator:
    """Which pages are free."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.num_pages = num_pages
        self.page_size = page_size
        self._free = list(range(num_pages))  # sorted

    @property
    def num_free(self) -> int:
        """Pages that nobody owns."""
        return len(self._free)

    def pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def take(self, num_pages: int, *, is_highest: bool = False) -> list[int] | None:
        """Pages in ascending order; None, and no change, where fewer are free. They lie in a row
        where there is such a gap: in the lowest one, or the highest."""
        if num_pages > self.num_free:
            return None
        start = self._find_gap(num_pages, is_highest)
        pages = self._free[start : start + num_pages]
        del self._free[start : start + num_pages]
        return pages

    def give_back(self, pages: list[int]) -> None:
        self._free = sorted(self._free + pages)

    def _find_gap(self, num_pages: int, is_highest: bool) -> int:
        """Where in the free list a row of pages begins; 0 where there is none."""
        free, last = self._free, self.num_free - num_pages
        for i in range(last, -1, -1) if is_highest else range(last + 1):
            if free[i + num_pages - 1] - free[i] == num_pages - 1:
                return i
        return 0


@dataclass(slots=True)
class PageTable:
    """The pages of one request, in the order of its tokens."""

    allocator: PageAllocator
    pages: list[int]
    _slots: Tensor | None = None

    @property
    def num_slots(self) -> int:
        """Tokens that fit."""
        return len(self.pages) * self.allocator.page_size

    @property
    def is_contiguous(self) -> bool:
        """All slots are adjacent. Pages are in ascending order."""
        return self.pages[-1] - self.pages[0] == len(self.pages) - 1

    @property
    def first_slot(self) -> int:
        return self.pages[0] * self.allocator.page_size

    def slots(self, device: torch.device) -> Tensor:
        """Slot of every position the pages can hold, int64 [num_slots]."""
        if self._slots is None:
            import torch  # here, so that pages can be counted without it

            page_size = self.allocator.page_size
            starts = torch.tensor(self.pages, device=device) * page_size  # [P]
            self._slots = (starts[:, None] + torch.arange(page_size, device=device)).flatten()
        return self._slots

    def slots_of(self, start: int, end: int) -> Iterable[int]:
        """Slots of the positions from `start` to before `end`, without a tensor."""
        if self.is_contiguous:
            return range(self.first_slot + start, self.first_slot + end)
        size = self.allocator.page_size
        return [self.pages[i // size] * size + i % size for i in range(start, end)]

    def release(self) -> None:
        """Give everything back. Safe to call twice."""
        self.allocator.give_back(self.pages)
        self.pages, self._slots = [], None
