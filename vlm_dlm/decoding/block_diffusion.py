"""Block diffusion: denoise a block with full attention inside it, then commit it causally.

Source: docs/decoding.md, section 2. Denoising logits are aligned (row p predicts position p),
those of the commit forward are causal (the last row predicts the seed of the next block).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlm_dlm.decoding.base import (
    Block,
    DecodingMode,
    ModeRequest,
    ThinkingBudget,
)
from vlm_dlm.decoding.filters import Trail
from vlm_dlm.decoding.in_order import follow, run
from vlm_dlm.decoding.options import ModeOption, block_length, threshold
from vlm_dlm.decoding.sampling import Picked, RowSampler, pick_rows, round_to
from vlm_dlm.request import DecodingIds
from vlm_dlm.step import (
    WIDE_ROOM,
    ForwardKind,
    Origin,
    Room,
    StepPlan,
    StepResult,
    Token,
    Visibility,
)

if TYPE_CHECKING:
    from torch import Tensor


_THRESHOLD = threshold(can_be_none=True)
_BLOCK_LENGTH = block_length(1, 256)
_STEPS = ModeOption(
    "steps",
    int,
    "Most denoising forwards per block (diffusion).",
    1,
    1024,
    can_be_none=True,
    # Servers of diffusion models call it differently.
    request_names=("max_denoising_steps", "num_inference_steps", "steps"),
    refusal="takes {low:g} to {high:g} steps per block, not {value}",
    control=None,
    tool_help="most forwards per block",
)
_SEED_FIRST_TOKEN = ModeOption(
    "seed_first_token",
    bool,
    "Take the first token of a block from the previous forward (diffusion).",
)


@dataclass(frozen=True, slots=True)
class BlockDiffusionParams:
    """Options of block diffusion.

    threshold: every masked position at least this confident is filled in one forward, the best one
        always; None fills a fixed share per forward instead.
    steps: most denoising forwards per block; None means one per position.
    seed_first_token: position 0 of a block is the causal head's choice (current text reference);
        False leaves it masked (initial release).
    is_exact_reference: allow the mask id as a prediction and leave positions unfilled when `steps`
        run out, as the reference does. Off: neither can happen.
    is_native_confidence: take confidences in the model's own dtype, as the reference does.
    """

    block_length: int = 32
    threshold: float | None = 0.9
    steps: int | None = None
    seed_first_token: bool = True
    is_exact_reference: bool = False
    is_native_confidence: bool = False

    def __post_init__(self) -> None:
        _BLOCK_LENGTH.check(BlockDiffusion.name, self.block_length)
        _THRESHOLD.check(BlockDiffusion.name, self.threshold)
        _STEPS.check(BlockDiffusion.name, self.steps)

    @property
    def num_steps(self) -> int:
        return self.block_length if self.steps is None else self.steps


@dataclass(slots=True)
class BlockDiffusionState:
    """What block diffusion knows of one request.

    canvas: the block being denoised.
    seed: position 0 of the block, chosen by the causal head; None where it is masked.
    block: index of the canvas, from 0.
    num_steps: forwards so far.
    num_denoised: denoising forwards of this block.
    schedule: positions to fill per forward when no threshold is set.
    is_committing: the next forward is the causal one over the finished block.
    forced: where the end of the thought was put into this block.
    """

    params: BlockDiffusionParams
    ids: DecodingIds
    ending_ids: frozenset[int]
    sampler: RowSampler
    budget: ThinkingBudget
    canvas: Block
    seed: Picked | None
    block: int = -1
    num_steps: int = 0
    num_denoised: int = 0
    schedule: tuple[int, ...] = ()
    is_committing: bool = False
    forced: int | None = None

    @property
    def known(self) -> list[int | None]:
        """The block, without its masks."""
        mask = self.ids.mask
        return [None if token == mask else token for token in self.canvas.token_ids]

    @property
    def masked(self) -> list[int]:
        mask = self.ids.mask
        return [p for p, token in enumerate(self.canvas.token_ids) if token == mask]


class BlockDiffusion(DecodingMode[BlockDiffusionParams, BlockDiffusionState, Picked]):
    """Plan: the canvas (full visibility), then the finished block (causal)."""

    name: ClassVar[str] = "diffusion"
    title: ClassVar[str] = "Block diffusion"
    summary: ClassVar[str] = "fills a block of masked tokens in a few forwards, then commits it"
    options = (_THRESHOLD, _BLOCK_LENGTH, _STEPS, _SEED_FIRST_TOKEN)
    Params: ClassVar[type] = BlockDiffusionParams
    is_lossless: ClassVar[bool] = False
    aliases: ClassVar[tuple[str, ...]] = ("dlm", "block_diffusion")

    def max_query_len(self, params: BlockDiffusionParams) -> int:
        return params.block_length

    def start(
        self, request: ModeRequest[BlockDiffusionParams], prompt_logits: Tensor
    ) -> tuple[BlockDiffusionState, StepResult]:
        params, ids = request.params, request.ids
        state = BlockDiffusionState(
            params,
            ids,
            request.ending_ids,
            request.sampler(with_mask=params.is_exact_reference),
            ThinkingBudget.of(request.sampling, ids),
            Block([]),
            None,
        )
        if params.seed_first_token:
            rows = prompt_logits.clone()[None]
            state.seed = follow(rows, _pick([rows], [state], [[()]])[0], state.sampler, ())
        _begin_block(state)
        return state, StepResult(canvas=tuple(state.canvas.token_ids), num_forwards=0)

    def plan(self, state: BlockDiffusionState, room: Room = WIDE_ROOM) -> StepPlan:
        token_ids = list(state.canvas.token_ids)
        if state.is_committing:
            # Only the last row is asked for: it is the seed of the next block.
            kind = ForwardKind.COMMIT
            return StepPlan(token_ids, Visibility.CAUSAL, num_logits=1, kind=kind)
        return StepPlan(token_ids, Visibility.FULL, kind=ForwardKind.DENOISE)

    def choose(
        self, states: Sequence[BlockDiffusionState], logits: Sequence[Tensor]
    ) -> list[Picked]:
        picked = _pick(logits, states, [_trails(state) for state in states])
        return [_in_order(*entry) for entry in zip(states, logits, picked, strict=True)]

    def advance(self, state: BlockDiffusionState, choice: Picked) -> StepResult:
        state.num_steps += 1
        return (_commit if state.is_committing else _denoise)(state, choice)


def _trails(state: BlockDiffusionState) -> Iterator[Trail]:
    """What comes before the choice of each row: the block up to its own place while denoising, and
    all of it where the block is committed."""
    known = state.known
    places = [len(known)] if state.is_committing else range(len(known))
    for place in places:
        yield known[:place]


def _pick(
    rows: Sequence[Tensor],
    states: Sequence[BlockDiffusionState],
    trails: Sequence[Iterable[Trail]],
) -> list[Picked]:
    """Batched over requests whose confidences have the same dtype (nearly always all of them)."""
    out: list[Picked | None] = [None] * len(states)
    groups: dict[bool, list[int]] = {}
    for i, state in enumerate(states):
        groups.setdefault(state.params.is_native_confidence, []).append(i)
    for is_native, members in groups.items():
        picked = pick_rows(
            [rows[i] for i in members],
            [states[i].sampler for i in members],
            [trails[i] for i in members],
            is_native_dtype=is_native,
        )
        for i, value in zip(members, picked, strict=True):
            out[i] = value
    return [value for value in out if value is not None]


def _begin_block(state: BlockDiffusionState) -> None:
    params, budget = state.params, state.budget
    state.block += 1
    state.canvas = Block([state.ids.mask] * params.block_length)
    if state.seed is not None:
        token_id, confidence = state.seed.token_ids[0], state.seed.confidences[0]
        logprobs = state.seed.logprobs(0, token_id)
        state.canvas.fill(
            0, token_id, step=state.num_steps, confidence=confidence, logprobs=logprobs
        )
    start, state.forced = state.block * params.block_length, None
    if budget.is_spent(start + params.block_length):
        state.forced = place = max(0, budget.forced_place - start)
        state.canvas.fill(place, budget.forced_id, step=state.num_steps, confidence=1.0)
    num_masked, num_steps = len(state.masked), params.num_steps
    share, extra = divmod(num_masked, num_steps)
    state.schedule = tuple(share + (i < extra) for i in range(num_steps))
    state.num_denoised = 0
    state.is_committing = num_masked == 0


def _in_order(state: BlockDiffusionState, rows: Tensor, picked: Picked) -> Picked:
    """What the rules that go from the left make of the choices."""
    sampler = state.sampler
    if not sampler.ordered:
        return picked
    if state.is_committing:
        return follow(rows, picked, sampler, (), before=state.known)
    limit, most = _limits(state, picked)
    return run(rows, picked, sampler, state.known, state.ending_ids, limit=limit, most=most)


def _limits(state: BlockDiffusionState, picked: Picked) -> tuple[float, int]:
    """The confidence from which on positions are filled, and how many at most."""
    params = state.params
    is_last = state.num_denoised + 1 >= params.num_steps
    is_over = state.num_denoised >= params.num_steps  # a filter has left masks
    if is_over or (is_last and not params.is_exact_reference):
        return 0.0, params.block_length
    if params.threshold is None:
        return 0.0, state.schedule[state.num_denoised]
    return round_to(params.threshold, picked.dtype), params.block_length


def _denoise(state: BlockDiffusionState, picked: Picked) -> StepResult:
    """Fill the chosen positions. They are masked again only where a filter has it so, as what was
    put before them in the same forward, or later, rules them out."""
    is_last = state.num_denoised + 1 >= state.params.num_steps
    chosen = picked.places
    if chosen is None:
        limit, most = _limits(state, picked)
        by_confidence = sorted(state.masked, key=lambda p: -picked.confidences[p])
        confident = [p for p in by_confidence if picked.confidences[p] >= limit]
        chosen = (confident or by_confidence[:1])[:most]
    for p in chosen:
        token_id, confidence = picked.token_ids[p], picked.confidences[p]
        logprobs = picked.logprobs(p, token_id)
        state.canvas.fill(
            p, token_id, step=state.num_steps, confidence=confidence, logprobs=logprobs
        )
    state.num_denoised += 1
    refused = _mask_refused(state)
    state.is_committing = (is_last and not refused) or _is_settled(state)
    return StepResult(canvas=tuple(state.canvas.token_ids))


def _mask_refused(state: BlockDiffusionState) -> bool:
    """Free the places whose tokens a filter rules out, up to the end of the answer. Each time the
    first place that changed stays filled, so that a block is finished in the end. What is filled
    from the left has been asked about already."""
    if state.sampler.ordered:
        return False
    known = state.known
    ends = [place for place, token in enumerate(known) if token in state.ending_ids]
    refused = state.sampler.refused(known[: ends[0] + 1] if ends else known, state.forced)
    for place in refused:
        state.canvas.token_ids[place] = state.ids.mask
    return bool(refused)


def _is_settled(state: BlockDiffusionState) -> bool:
    """No mask is left, or none stands before the first token that ends the answer."""
    for token in state.canvas.token_ids:
        if token == state.ids.mask:
            return False
        if token in state.ending_ids:
            return True
    return True


def _commit(state: BlockDiffusionState, picked: Picked) -> StepResult:
    """The block is in the cache: hand it out and begin the next one."""
    canvas = state.canvas
    tokens: list[Token] = []
    for p, token_id in enumerate(canvas.token_ids):
        is_seed = p == 0 and state.seed is not None
        token = Token(
            id=token_id,
            block=state.block,
            step=canvas.steps[p],
            confidence=canvas.confidences[p],
            origin=Origin.AR if is_seed else Origin.UNMASKED,
            logprobs=canvas.logprobs[p],
        )
        tokens.append(token)
        if token_id in state.ending_ids:
            break
    written = [token.id for token in tokens]
    state.budget.note(written)
    state.sampler.note(written)
    if state.seed is not None:
        state.seed = picked
    result = StepResult(committed=tuple(tokens), num_kv_kept=len(canvas.token_ids))
    _begin_block(state)
    return result
