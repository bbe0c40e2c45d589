"""Limits of an engine. Free of torch, so that a process without weights can name them too."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_dlm.engine.base import Capabilities, describe_modes


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Limits of one engine.

    page_size: tokens per page of the cache.
    max_cache_tokens: slots of the key/value cache.
    max_batched_tokens: rows of one forward.
    max_prompt_rows: rows of prompt in one forward.
    max_prompt_rows_beside: the same while others write, whose next tokens wait for that forward.
    max_plan_rows_beside: rows of wide plans in one forward, while a plan of less than a quarter of
        their rows waits for it too.
    max_running: requests that share a forward.
    max_context: longest prompt plus answer; None takes the checkpoint's own limit.
    num_kept_features: images whose features are kept.
    num_kept_prompts: prompts whose keys and values are kept.
    """

    page_size: int = 16
    max_cache_tokens: int = 32768
    max_batched_tokens: int = 2048
    max_prompt_rows: int = 1024
    max_prompt_rows_beside: int = 256
    max_plan_rows_beside: int = 256
    max_running: int = 64
    max_context: int | None = None
    num_kept_features: int = 32
    num_kept_prompts: int = 4

    @property
    def num_pages(self) -> int:
        """Of the cache."""
        return self.max_cache_tokens // self.page_size

    @property
    def num_slots(self) -> int:
        """Of the cache, in whole pages."""
        return self.num_pages * self.page_size

    def capabilities(self, max_context: int) -> Capabilities:
        """Of an engine of ours within these limits. max_context: of its checkpoint."""
        return Capabilities(
            describe_modes(),
            self.max_context or max_context,
            self.max_running,
            self.num_slots,
            self.page_size,
        )
