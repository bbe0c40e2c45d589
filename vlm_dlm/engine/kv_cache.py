"""Memory of keys and values: a page allocator in plain Python, and the tensors the pages index.

A page is `page_size` consecutive slots; a slot holds the keys and values of one token in all
layers. Pages are reserved for the worst case when a request is admitted, so a running request can
never find the cache full, and taken one by one as its tokens come.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlm_dlm.config import ModelConfig


class PageAllocator:
    """Which pages are free, and how many are promised. No tensors."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.num_pages = num_pages
        self.page_size = page_size
        self.num_reserved = 0
        self._free = list(range(num_pages))  # sorted

    @property
    def num_used(self) -> int:
        """Pages that hold something."""
        return self.num_pages - len(self._free)

    @property
    def num_available(self) -> int:
        """Pages that may still be promised."""
        return self.num_pages - self.num_reserved

    def pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def reserve(self, num_pages: int) -> bool:
        """Promise pages; False, and no change, where there are not that many."""
        if num_pages > self.num_available:
            return False
        self.num_reserved += num_pages
        return True

    def take(self, is_highest: bool = False) -> int:
        """One page out of a promise made before: the lowest, or the highest there is."""
        return self._free.pop(-1 if is_highest else 0)

    def give_back(self, pages: list[int], num_reserved: int) -> None:
        """Return pages and the promise they came from."""
        self._free = sorted(self._free + pages)
        self.num_reserved -= num_reserved


@dataclass(slots=True)
class PageTable:
    """The pages of one request, in order. Grows only within its reservation.

    takes_highest: for what is kept and does not grow, so that it never lies in the way of a request
    that does: pages in a row are attended without a gather.
    """

    allocator: PageAllocator
    num_reserved: int
    takes_highest: bool = False
    pages: list[int] = field(default_factory=list[int])
    is_contiguous: bool = True
    _slots: Tensor | None = None

    @property
    def first_slot(self) -> int:
        return self.pages[0] * self.allocator.page_size

    def grow_to(self, num_tokens: int) -> None:
        """Take pages until `num_tokens` slots exist."""
        num_pages = self.allocator.pages_for(num_tokens)
        if num_pages > self.num_reserved:
            raise AssertionError(f"{num_pages} pages wanted, {self.num_reserved} reserved")
        while len(self.pages) < num_pages:
            page = self.allocator.take(self.takes_highest)
            if self.pages and page != self.pages[-1] + 1:
                self.is_contiguous = False
            self.pages.append(page)

    def slots(self, device: torch.device) -> Tensor:
        """Slot of every position the pages can hold, int64 [len(pages) * page_size]."""
        page_size = self.allocator.page_size
        if self._slots is None or self._slots.shape[0] != len(self.pages) * page_size:
            starts = torch.tensor(self.pages, device=device) * page_size  # [P]
            self._slots = (starts[:, None] + torch.arange(page_size, device=device)).flatten()
        return self._slots

    def release(self) -> None:
        """Give everything back. Safe to call twice."""
        self.allocator.give_back(self.pages, self.num_reserved)
        self.pages, self.num_reserved, self._slots = [], 0, None


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
        self.data = torch.empty(shape, device=device, dtype=dtype)

    @property
    def slot_bytes(self) -> int:
        """Bytes of one token."""
        return self.data[:, :, 0].numel() * self.data.element_size()

    def copy(self, source: PageTable, target: PageTable, num_tokens: int) -> None:
        """Copy the first `num_tokens` slots of one table to another."""
        device = self.data.device
        slots = source.slots(device)[:num_tokens]
        self.data[:, :, target.slots(device)[:num_tokens]] = self.data[:, :, slots]
