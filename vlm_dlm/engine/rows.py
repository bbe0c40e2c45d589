"""One request's share of a forward, as a runner is told it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlm_dlm.engine.pages import PageTable
from vlm_dlm.engine.scheduler import Grant
from vlm_dlm.step import StepPlan

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PackedRows:
    """One request's share of a forward.

    plan: its Q rows.
    cache_len: tokens that are cached before them.
    table: its pages, with room for cache_len + Q tokens.
    logit_rows: how many last rows need logits.
    features: image features [pads, D] for the placeholders among the rows, in order.
    """

    plan: StepPlan
    cache_len: int
    table: PageTable
    logit_rows: int
    features: Tensor | None = None

    @property
    def num_rows(self) -> int:
        return len(self.plan.token_ids)

    @property
    def length(self) -> int:
        """Slots the rows may see: what is cached, and themselves."""
        return self.cache_len + len(self.plan.token_ids)


def rows_of(grant: Grant, image_token_id: int | None) -> PackedRows:
    """A piece of the prompt as a causal plan, or the mode's own plan."""
    state = grant.state
    assert state.table is not None, "a running request owns pages"
    if state.plan is not None:
        plan = state.plan
        num_logits = grant.num_rows if plan.num_logits is None else plan.num_logits
        return PackedRows(plan, state.cache_len, state.table, num_logits)
    start, end = state.cache_len, state.cache_len + grant.num_rows
    chunk = list(state.request.prompt.token_ids[start:end])
    features = None
    if state.features is not None and image_token_id is not None:
        first = state.num_pads_done
        features = state.features[first : first + chunk.count(image_token_id)]
    is_last = end == state.num_prompt_tokens
    return PackedRows(StepPlan(chunk), start, state.table, int(is_last), features)
