"""Who runs next, and with how many rows. Knows queues, rows and pages; touches no tensor.

There is no prefill phase and no decode phase: a request wants a number of rows. A mode's plan is
never split; a prompt is cut to what is left of the budget, so a long one never stalls the others'
tokens.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from vlm_dlm.engine.kv_cache import PageAllocator, PageTable
from vlm_dlm.engine.prompt_cache import PromptCache
from vlm_dlm.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Limits of one engine.

    max_cache_tokens: slots of the key/value cache. max_batched_tokens: rows of one forward.
    max_prompt_rows: rows of prompt in one forward. max_running: requests that share a forward.
    max_context: longest prompt plus answer; None takes the checkpoint's own limit.
    num_kept_features / num_kept_prompts: entries of the two caches.
    """

    page_size: int = 16
    max_cache_tokens: int = 32768
    max_batched_tokens: int = 2048
    max_prompt_rows: int = 1024
    max_running: int = 64
    max_context: int | None = None
    num_kept_features: int = 32
    num_kept_prompts: int = 4


@dataclass(frozen=True, slots=True)
class Grant:
    """Rows of one request in the next forward: a piece of its prompt, or its whole plan."""

    sequence: Sequence
    num_rows: int


class Scheduler:
    """First come, first served; running requests before new ones."""

    def __init__(
        self, config: EngineConfig, allocator: PageAllocator, prompts: PromptCache
    ) -> None:
        self.config = config
        self.allocator = allocator
        self.prompts = prompts
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def admit(self) -> list[Sequence]:
        """Move waiting requests to running while their worst case fits into the cache."""
        admitted: list[Sequence] = []
        while self.waiting and len(self.running) < self.config.max_running:
            sequence = self.waiting[0]
            num_pages = self.allocator.pages_for(sequence.max_cache_len)
            while not self.allocator.reserve(num_pages):
                if not self.prompts.drop_oldest():
                    return admitted
            sequence.table = PageTable(self.allocator, num_pages)
            self.running.append(self.waiting.popleft())
            admitted.append(sequence)
        return admitted

    def schedule(self) -> list[Grant]:
        """Plans first, then pieces of prompts, within the row budget. Grows the page tables."""
        budget = self.config.max_batched_tokens
        grants: list[Grant] = []
        for sequence in self.running:
            if not sequence.is_prefilling and sequence.num_rows_wanted <= budget:
                budget -= sequence.num_rows_wanted
                grants.append(Grant(sequence, sequence.num_rows_wanted))
        budget = min(budget, self.config.max_prompt_rows)
        for sequence in self.running:
            if sequence.is_prefilling and budget > 0:
                num_rows = min(budget, sequence.num_rows_wanted)
                budget -= num_rows
                grants.append(Grant(sequence, num_rows))
        self._rotate(len(grants))
        for grant in grants:
            table = grant.sequence.table
            assert table is not None, "a running request owns pages"
            table.grow_to(grant.sequence.cache_len + grant.num_rows)
        return grants

    def _rotate(self, num_granted: int) -> None:
        """Where the budget left somebody out, the next step starts with them."""
        if num_granted < len(self.running):
            self.running = self.running[1:] + self.running[:1]

    def remove(self, sequence: Sequence) -> None:
        """Forget a request in any state and free what it holds."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        sequence.release()
