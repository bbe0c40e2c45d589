"""Autoregressive decoding: one token per forward.

Source: docs/decoding.md, section 1. The first token comes from the prefill's logits; the reference
counts every token as one forward, so tokens per forward is 1 by definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlm_dlm.decoding.base import DecodingMode, ModeRequest, ThinkingBudget
from vlm_dlm.decoding.in_order import follow
from vlm_dlm.decoding.sampling import Picked, RowSampler, pick_rows
from vlm_dlm.step import WIDE_ROOM, ForwardKind, Origin, Room, StepPlan, StepResult, Token

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class AutoregressiveParams:
    """Autoregressive decoding has no options of its own."""


@dataclass(slots=True)
class AutoregressiveState:
    """pending: last committed token, its key and value not cached yet."""

    sampler: RowSampler
    budget: ThinkingBudget
    pending: int = -1
    num_steps: int = 0


class Autoregressive(DecodingMode[AutoregressiveParams, AutoregressiveState, Picked]):
    """Plan: the pending token. Update: choose the next one."""

    name: ClassVar[str] = "ar"
    title: ClassVar[str] = "Autoregressive"
    summary: ClassVar[str] = "one token per forward"
    Params: ClassVar[type] = AutoregressiveParams
    is_lossless: ClassVar[bool] = True
    aliases: ClassVar[tuple[str, ...]] = ("autoregressive",)

    def max_query_len(self, params: AutoregressiveParams) -> int:
        return 1

    def start(
        self, request: ModeRequest[AutoregressiveParams], prompt_logits: Tensor
    ) -> tuple[AutoregressiveState, StepResult]:
        state = AutoregressiveState(
            request.sampler(),
            ThinkingBudget.of(request.sampling, request.ids),
        )
        rows = prompt_logits.clone()[None]
        return state, _commit(state, _pick([rows], [state])[0], num_kv_kept=0)

    def plan(self, state: AutoregressiveState, room: Room = WIDE_ROOM) -> StepPlan:
        return StepPlan([state.pending], kind=ForwardKind.AR)

    def choose(
        self, states: Sequence[AutoregressiveState], logits: Sequence[Tensor]
    ) -> list[Picked]:
        return _pick(logits, states)

    def advance(self, state: AutoregressiveState, choice: Picked) -> StepResult:
        return _commit(state, choice, num_kv_kept=1)


def _pick(rows: Sequence[Tensor], states: Sequence[AutoregressiveState]) -> list[Picked]:
    samplers = [state.sampler for state in states]
    picked = pick_rows(rows, samplers, with_margins=True)
    return [follow(*entry, ()) for entry in zip(rows, picked, samplers, strict=True)]


def _commit(state: AutoregressiveState, picked: Picked, num_kv_kept: int) -> StepResult:
    token_id, budget = picked.token_ids[0], state.budget
    if budget.is_spent(budget.num_tokens + 1):
        token_id = budget.forced_id
    state.pending = token_id
    state.num_steps += 1
    budget.note([token_id])
    state.sampler.note([token_id])
    margin = None if picked.margins is None else picked.margins[0]
    token = Token(
        id=token_id,
        block=state.num_steps - 1,
        step=state.num_steps,
        confidence=picked.confidences[0],
        origin=Origin.AR,
        margin=margin,
        logprobs=picked.logprobs(0, token_id),
    )
    return StepResult(committed=(token,), num_kv_kept=num_kv_kept)
