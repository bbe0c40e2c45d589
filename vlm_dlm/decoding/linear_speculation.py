"""Linear self-speculation: draft a block by diffusion, verify it causally, keep what agrees.

Source: docs/decoding.md, section 3. Draft logits are aligned (row p predicts position p),
verify logits are causal (row p predicts position p + 1): that shift of one is why B rows can emit B
tokens. Every emitted token is the verifier's own choice given the tokens before it, so the output
follows the autoregressive distribution exactly, whatever was drafted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from vlm_dlm.decoding.base import (
    Block,
    DecodingMode,
    ModeRequest,
    ThinkingBudget,
)
from vlm_dlm.decoding.filters import Trail
from vlm_dlm.decoding.in_order import follow, mended
from vlm_dlm.decoding.options import block_length, threshold
from vlm_dlm.decoding.sampling import Picked, RowSampler, accept_prefix, pick_rows, round_to
from vlm_dlm.decoding.verification import first_token, verified_tokens
from vlm_dlm.step import (
    WIDE_ROOM,
    ForwardKind,
    Origin,
    Room,
    StepPlan,
    StepResult,
    Visibility,
)

if TYPE_CHECKING:
    from torch import Tensor


_THRESHOLD = threshold()
_BLOCK_LENGTH = block_length(2, 256)


@dataclass(frozen=True, slots=True)
class LinearSpeculationParams:
    """Options of linear self-speculation.

    threshold: 0 drafts the block in one forward; above 0, positions at least this confident are
        filled per forward until none is masked.
    use_adapter: draft with the checkpoint's draft adapter where one is loaded.
    """

    block_length: int = 32
    threshold: float = 0.0
    use_adapter: bool = True

    def __post_init__(self) -> None:
        _BLOCK_LENGTH.check(LinearSpeculation.name, self.block_length)
        _THRESHOLD.check(LinearSpeculation.name, self.threshold)


@dataclass(slots=True)
class LinearSpeculationState:
    """What linear self-speculation knows of one request.

    canvas: the pending token, then drafts or masks.
    block: index of the draft, from 0.
    num_steps: forwards so far.
    is_verifying: the canvas is full, check it next.
    """

    params: LinearSpeculationParams
    mask_id: int
    sampler: RowSampler
    budget: ThinkingBudget
    canvas: Block
    block: int = -1
    num_steps: int = 0
    is_verifying: bool = False

    @property
    def masked(self) -> list[int]:
        return [p for p, token in enumerate(self.canvas.token_ids) if token == self.mask_id]

    @property
    def drafts(self) -> tuple[int, ...]:
        return tuple(self.canvas.token_ids[1:])


class LinearSpeculation(DecodingMode[LinearSpeculationParams, LinearSpeculationState, Picked]):
    """Plan: the draft canvas (full visibility, adapter on), then the same rows causally."""

    name: ClassVar[str] = "linear_spec"
    title: ClassVar[str] = "Linear self-speculation"
    summary: ClassVar[str] = "drafts a block by diffusion, then checks it in one causal forward"
    options = (_THRESHOLD, _BLOCK_LENGTH)
    Params: ClassVar[type] = LinearSpeculationParams
    is_lossless: ClassVar[bool] = True
    is_speculative: ClassVar[bool] = True
    aliases: ClassVar[tuple[str, ...]] = ("linear_speculative", "linear")

    def max_query_len(self, params: LinearSpeculationParams) -> int:
        return params.block_length

    def start(
        self, request: ModeRequest[LinearSpeculationParams], prompt_logits: Tensor
    ) -> tuple[LinearSpeculationState, StepResult]:
        state = LinearSpeculationState(
            request.params,
            request.ids.mask,
            request.sampler(),
            ThinkingBudget.of(request.sampling, request.ids),
            Block([]),
        )
        token = first_token(prompt_logits, state.sampler, state.budget)
        _begin_draft(state, token.id)
        return state, StepResult(committed=(token,), canvas=state.drafts, num_forwards=0)

    def plan(self, state: LinearSpeculationState, room: Room = WIDE_ROOM) -> StepPlan:
        token_ids = list(state.canvas.token_ids)
        if state.is_verifying:
            return StepPlan(token_ids, Visibility.CAUSAL, kind=ForwardKind.VERIFY)
        return StepPlan(
            token_ids,
            Visibility.FULL,
            use_draft_adapter=state.params.use_adapter,
            kind=ForwardKind.DRAFT,
        )

    def choose(
        self, states: Sequence[LinearSpeculationState], logits: Sequence[Tensor]
    ) -> list[Picked]:
        samplers = [_sampler(state) for state in states]
        picked = pick_rows(logits, samplers, [_trails(state) for state in states])
        return [_in_order(*entry) for entry in zip(states, logits, picked, strict=True)]

    def advance(self, state: LinearSpeculationState, choice: Picked) -> StepResult:
        state.num_steps += 1
        return (_verify if state.is_verifying else _draft)(state, choice)


def _trails(state: LinearSpeculationState) -> Iterator[Trail]:
    """What comes before the choice of each row: the drafts before its own place, which is the next
    one while verifying. The pending token is the last of those written, and its place is not chosen
    again."""
    drafts = [None if token == state.mask_id else token for token in state.drafts]
    for row in range(state.params.block_length):
        yield drafts[: row if state.is_verifying else max(0, row - 1)]


def _in_order(state: LinearSpeculationState, rows: Tensor, picked: Picked) -> Picked:
    """What the rules that go from the left make of the choices."""
    if not state.sampler.ordered:
        return picked
    if state.is_verifying:
        return follow(rows, picked, state.sampler, state.drafts)
    places = zip(state.canvas.token_ids, picked.token_ids, strict=True)
    ids = [choice if token == state.mask_id else token for token, choice in places]
    return replace(picked, token_ids=[ids[0], *mended(rows[1:], ids[1:], state.sampler)])


def _sampler(state: LinearSpeculationState) -> RowSampler:
    """Nobody is told of drafts."""
    is_told = state.is_verifying or state.sampler.num_logprobs is None
    return state.sampler if is_told else state.sampler.silent()


def _begin_draft(state: LinearSpeculationState, pending: int) -> None:
    state.block += 1
    state.canvas = Block([pending] + [state.mask_id] * (state.params.block_length - 1))
    state.is_verifying = False


def _draft(state: LinearSpeculationState, picked: Picked) -> StepResult:
    """Fill masked positions: all of them, or the confident ones and always the best."""
    masked, limit = state.masked, round_to(state.params.threshold, picked.dtype)
    chosen = [p for p in masked if picked.drawn_confidences[p] >= limit]
    if not chosen:
        chosen = [max(masked, key=lambda p: picked.drawn_confidences[p])]
    for p in chosen:
        token_id, confidence = picked.token_ids[p], picked.confidences[p]
        state.canvas.fill(p, token_id, step=state.num_steps, confidence=confidence)
    state.is_verifying = len(chosen) == len(masked)
    return StepResult(canvas=state.drafts)


def _verify(state: LinearSpeculationState, picked: Picked) -> StepResult:
    """Emit the accepted drafts and the verifier's next token, which becomes the pending one."""
    drafts = state.drafts
    num_accepted = accept_prefix(drafts, picked.token_ids)
    last = Origin.BONUS if num_accepted == len(drafts) else Origin.CORRECTED
    tokens = verified_tokens(picked, num_accepted, last, block=state.block, step=state.num_steps)
    budget, pending = state.budget, tokens[-1].id
    written = [token.id for token in tokens]
    budget.note(written)
    state.sampler.note(written)
    if budget.is_spent(budget.num_tokens):
        # As in the reference: the forced token conditions what follows but is not written out.
        pending = budget.forced_id
    _begin_draft(state, pending)
    return StepResult(
        tuple(tokens),
        num_kv_kept=len(tokens),
        canvas=state.drafts,
        acceptance_len=len(tokens),
        num_drafts=len(drafts),
    )
