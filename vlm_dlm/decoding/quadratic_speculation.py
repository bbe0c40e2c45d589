"""Quadratic self-speculation: one forward verifies a draft and drafts anew after every prefix.

Source: docs/decoding.md, section 5. The rows are the pending token and its drafts (the heads, plain
causal verification), then one branch of masks per head, which sees the heads up to its own and
itself: the draft that is right if exactly that many tokens are accepted. Heads come first, so the
rows to keep are a prefix. After the prefill nothing is drafted yet: the first forward has one head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from vlm_dlm.decoding.base import (
    DecodingMode,
    ModeRequest,
    ThinkingBudget,
)
from vlm_dlm.decoding.filters import Trail
from vlm_dlm.decoding.in_order import follow, mended
from vlm_dlm.decoding.options import block_length
from vlm_dlm.decoding.sampling import Picked, RowSampler, accept_prefix, pick_rows
from vlm_dlm.decoding.verification import first_token, verified_tokens
from vlm_dlm.step import WIDE_ROOM, ForwardKind, Origin, Pattern, Room, StepPlan, StepResult

if TYPE_CHECKING:
    from torch import Tensor


_BLOCK_LENGTH = block_length(2, 32)


@dataclass(frozen=True, slots=True)
class QuadraticSpeculationParams:
    """Options of quadratic self-speculation.

    block_length: B, most tokens per forward; a forward has B (B + 1) rows. The default suits a CPU,
        where rows are not free (measured in docs/performance.md); the reference uses 16.
    """

    block_length: int = 8

    def __post_init__(self) -> None:
        _BLOCK_LENGTH.check(QuadraticSpeculation.name, self.block_length)


@dataclass(frozen=True, slots=True)
class Branches(Pattern):
    """Who sees whom among `num_heads` heads and the branch of `length` masks after each."""

    num_heads: int
    length: int

    def mask(self) -> Tensor:
        return branch_visibility(self.num_heads, self.length)


@dataclass(slots=True)
class QuadraticSpeculationState:
    """What quadratic self-speculation knows of one request.

    sampler: of the heads, whose choices are final.
    drafter: of the branches, by the same filters.
    pending: last committed token, not cached yet.
    drafts: what may follow it, possibly empty.
    num_steps: forwards so far.
    """

    params: QuadraticSpeculationParams
    mask_id: int
    sampler: RowSampler
    drafter: RowSampler
    budget: ThinkingBudget
    pending: int = -1
    drafts: list[int] = field(default_factory=list[int])
    num_steps: int = 0


class QuadraticSpeculation(
    DecodingMode[QuadraticSpeculationParams, QuadraticSpeculationState, tuple[Picked, Picked]]
):
    """Plan: heads, then one branch of masks per head. Update: accept, and take that branch."""

    name: ClassVar[str] = "quadratic_spec"
    title: ClassVar[str] = "Quadratic self-speculation"
    summary: ClassVar[str] = "checks one draft and writes the next in the same forward"
    options = (_BLOCK_LENGTH,)
    Params: ClassVar[type] = QuadraticSpeculationParams
    is_lossless: ClassVar[bool] = True
    is_speculative: ClassVar[bool] = True
    aliases: ClassVar[tuple[str, ...]] = ("quadratic_speculative", "quadratic")

    def max_query_len(self, params: QuadraticSpeculationParams) -> int:
        return params.block_length * (params.block_length + 1)

    def start(
        self, request: ModeRequest[QuadraticSpeculationParams], prompt_logits: Tensor
    ) -> tuple[QuadraticSpeculationState, StepResult]:
        sampler = request.sampler()
        state = QuadraticSpeculationState(
            request.params,
            request.ids.mask,
            sampler,
            sampler.greedy(),
            ThinkingBudget.of(request.sampling, request.ids),
        )
        token = first_token(prompt_logits, state.sampler, state.budget)
        state.pending = token.id
        return state, StepResult(committed=(token,), num_forwards=0)

    def plan(self, state: QuadraticSpeculationState, room: Room = WIDE_ROOM) -> StepPlan:
        num_heads, length = 1 + len(state.drafts), state.params.block_length
        token_ids = [state.pending, *state.drafts] + [state.mask_id] * (num_heads * length)
        return StepPlan(
            token_ids,
            Branches(num_heads, length),
            list(branch_offsets(num_heads, length)),
            kind=ForwardKind.VERIFY,
        )

    def choose(
        self, states: Sequence[QuadraticSpeculationState], logits: Sequence[Tensor]
    ) -> list[tuple[Picked, Picked]]:
        heads = [x[: 1 + len(s.drafts)] for s, x in zip(states, logits, strict=True)]
        branches = [x[1 + len(s.drafts) :] for s, x in zip(states, logits, strict=True)]
        # Branches are drafted greedily: a draft only decides how much of the verifier's output is
        # usable, and its likeliest token is the one most often confirmed.
        samplers = [s.sampler for s in states] + [s.drafter for s in states]
        trails = [_head_trails(s) for s in states] + [_branch_trails(s) for s in states]
        picked = pick_rows(heads + branches, samplers, trails)
        pairs = zip(picked[: len(states)], picked[len(states) :], strict=True)
        choices = zip(states, heads, branches, pairs, strict=True)
        return [_in_order(*choice) for choice in choices]

    def advance(
        self, state: QuadraticSpeculationState, choice: tuple[Picked, Picked]
    ) -> StepResult:
        return _advance(state, *choice)


def _head_trails(state: QuadraticSpeculationState) -> Iterator[Trail]:
    """What comes before the choice of each head: the drafts up to it. The pending token is the last
    of those written."""
    for num in range(1 + len(state.drafts)):
        yield state.drafts[:num]


def _branch_trails(state: QuadraticSpeculationState) -> Iterator[Trail]:
    """The same for the branches, whose rows choose their own places, side by side."""
    for drafts in _head_trails(state):
        for num in range(state.params.block_length):
            yield [*drafts, *[None] * num]


def _in_order(
    state: QuadraticSpeculationState, heads: Tensor, branches: Tensor, pair: tuple[Picked, Picked]
) -> tuple[Picked, Picked]:
    """What the rules that go from the left make of the choices: of the heads, and of the one branch
    that will be taken."""
    head, branch = pair
    if not state.sampler.ordered:
        return pair
    head = follow(heads, head, state.sampler, state.drafts)
    num_accepted = accept_prefix(state.drafts, head.token_ids)
    start = num_accepted * state.params.block_length + 1
    end = start + state.params.block_length - 1
    ids = list(branch.token_ids)
    before = head.token_ids[: num_accepted + 1]
    ids[start:end] = mended(branches[start:end], ids[start:end], state.drafter, before)
    return head, replace(branch, token_ids=ids)


def _advance(state: QuadraticSpeculationState, head: Picked, branch: Picked) -> StepResult:
    """Emit the accepted drafts and the verifier's next token, then take up the matching branch."""
    length = state.params.block_length
    num_accepted = accept_prefix(state.drafts, head.token_ids)
    last = _last_origin(state.drafts, num_accepted)
    step = state.num_steps + 1
    tokens = verified_tokens(head, num_accepted, last, block=state.num_steps, step=step)
    state.num_steps = step
    # Slot 1 of the branch stands for the token that the head has just chosen; the rest follow it.
    start = num_accepted * length
    num_drafts = len(state.drafts)
    drafts = branch.token_ids[start + 1 : start + length]
    budget = state.budget
    budget.note([token.id for token in tokens])
    if budget.is_spent(budget.num_tokens - 1):
        # As in the reference: the end of the thought is put in front of the next round's drafts.
        # The reference counts a head once it is accepted, one round after it was chosen here.
        drafts = [tokens[-1].id, *drafts][: length - 1]
        tokens[-1] = replace(
            tokens[-1], id=budget.forced_id, confidence=1.0, origin=Origin.AR, logprobs=None
        )
        budget.has_ended = True
    state.sampler.note([token.id for token in tokens])
    state.pending, state.drafts = tokens[-1].id, drafts
    return StepResult(
        tuple(tokens),
        num_kv_kept=len(tokens),
        canvas=tuple(drafts),
        acceptance_len=len(tokens) if num_drafts else None,  # nothing drafted, nothing refused
        num_drafts=num_drafts,
    )


def _last_origin(drafts: Sequence[int], num_accepted: int) -> Origin:
    if not drafts:
        return Origin.AR
    return Origin.BONUS if num_accepted == len(drafts) else Origin.CORRECTED


@lru_cache(maxsize=64)
def branch_offsets(num_heads: int, length: int) -> tuple[int, ...]:
    """Positions of the rows: heads at 0..G-1, slot j = 1..B of branch i at i + j."""
    branches = (i + j for i in range(num_heads) for j in range(1, length + 1))
    return (*range(num_heads), *branches)


@lru_cache(maxsize=64)
def branch_visibility(num_heads: int, length: int) -> Tensor:
    """Bool [Q, Q], Q = G + G * B. Heads are causal, a branch sees the heads up to its own and
    itself."""
    import torch

    row = torch.arange(num_heads * (1 + length))
    is_head = row < num_heads
    group = torch.where(is_head, row, (row - num_heads) // length)  # [Q]
    sees_head = is_head[None, :] & (group[None, :] <= group[:, None])
    sees_own_branch = ~is_head[:, None] & ~is_head[None, :] & (group[:, None] == group[None, :])
    return sees_head | sees_own_branch
