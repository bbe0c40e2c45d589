"""Memory of keys and values: a page allocator in plain Python, and the tensors the pages index.

A page is `page_size` consecutive slots; a slot holds the keys and values of one token in all
layers. A request takes all pages of its worst case when it is admitted, so a running request can
never find the cache full, and they lie in a row wherever such a gap is free: rows of adjacent slots
are attended where they lie, others must be gathered first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.errors import CapacityError


class PageAllocator:
    """Which pages are free. No tensors."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.num_pages = num_pages
        self.page_size = page_size
        self._free = list(range(num_pages))  # sorted

    @property
    def num_used(self) -> int:
        """Pages that somebody owns."""
        return self.num_pages - len(self._free)

    @property
    def num_available(self) -> int:
        """Pages that may still be taken."""
        return len(self._free)

    def pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def take(self, num_pages: int, *, is_highest: bool = False) -> list[int] | None:
        """Pages in ascending order; None, and no change, where fewer are free. They lie in a row
        where there is such a gap: in the lowest one, or the highest."""
        if num_pages > len(self._free):
            return None
        start = self._find_gap(num_pages, is_highest)
        pages = self._free[start : start + num_pages]
        del self._free[start : start + num_pages]
        return pages

    def give_back(self, pages: list[int]) -> None:
        self._free = sorted(self._free + pages)

    def _find_gap(self, num_pages: int, is_highest: bool) -> int:
        """Where in the free list a row of pages begins; 0 where there is none."""
        free, last = self._free, len(self._free) - num_pages
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


class KvCache:
    """The tensors: data is [layers, 2, num_slots, K, Dh]. Unwritten slots are never read."""

    def __init__(
        self, config: ModelConfig, num_slots: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (
            config.num_hidden_layers,
            2,
            num_slots,
            config.num_key_value_heads,
            config.head_dim,
        )
        # empty, not zeros: on a CPU the pages of memory come with the first write
        try:
            self.data = torch.empty(shape, device=device, dtype=dtype)
        except RuntimeError as error:  # also torch.OutOfMemoryError
            size = f"{math.prod(shape) * dtype.itemsize / 2**30:.1f} GiB on {device.type}"
            raise CapacityError(
                f"there is no memory for a cache of {num_slots} tokens ({size})"
            ) from error

    @property
    def slot_bytes(self) -> int:
        """Bytes of one token."""
        return self.data[:, :, 0].numel() * self.data.element_size()

    def copy(self, source: PageTable, target: PageTable, num_tokens: int) -> None:
        """Copy the first `num_tokens` slots of one table to another."""
        device = self.data.device
        slots = source.slots(device)[:num_tokens]
        self.data[:, :, target.slots(device)[:num_tokens]] = self.data[:, :, slots]
