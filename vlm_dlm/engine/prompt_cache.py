"""Prompts whose keys and values were kept, so that the same prompt need not be computed again.

Serves comparisons (one prefill, many modes) and repeated questions. Entries are copied into a
request, never shared, and are the first to go when a request needs their pages.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from vlm_dlm.engine.pages import PageTable


@dataclass(slots=True)
class KeptPrompt:
    """A prompt that need not be computed again.

    table: its pages.
    num_tokens: of the prompt, all cached.
    logits: [V], after the last of them.
    """

    table: PageTable
    num_tokens: int
    logits: Any


class PromptCache:
    """Least recently used entries go first."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self._entries: OrderedDict[object, KeptPrompt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: object) -> KeptPrompt | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def keep(self, key: object, entry: KeptPrompt) -> None:
        """Own the entry's pages from now on."""
        self.drop(key)
        self._entries[key] = entry
        while len(self._entries) > self.max_entries:
            self.drop_oldest()

    def drop(self, key: object) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.table.release()

    def clear(self) -> None:
        """Free everything."""
        while self.drop_oldest():
            pass

    def drop_oldest(self) -> bool:
        """Free the oldest entry. False where there is none."""
        if not self._entries:
            return False
        _, entry = self._entries.popitem(last=False)
        entry.table.release()
        return True
