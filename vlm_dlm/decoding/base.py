"""The interface of a decoding mode. A mode never calls the model: it asks (`plan`) and is told
(`choose`, `advance`); the engine owns every loop, the cache and the stop rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from vlm_dlm.decoding.filters import RowFilter, filters_of
from vlm_dlm.decoding.options import ModeOption
from vlm_dlm.decoding.sampling import RowSampler
from vlm_dlm.errors import ModeError
from vlm_dlm.request import DecodingIds, SamplingParams
from vlm_dlm.step import WIDE_ROOM, Logprobs, Room, StepPlan, StepResult

if TYPE_CHECKING:
    from torch import Tensor

StateT = TypeVar("StateT")
ParamsT = TypeVar("ParamsT")
ChoiceT = TypeVar("ChoiceT")


@dataclass(slots=True)
class ThinkingBudget:
    """Forces the end of a thought once `limit` tokens were written without it."""

    limit: int | None
    end_id: int | None
    num_tokens: int = 0
    has_ended: bool = False

    @classmethod
    def of(cls, sampling: SamplingParams, ids: DecodingIds) -> ThinkingBudget:
        return cls(sampling.max_thinking_tokens, ids.end_think)

    def is_spent(self, num_tokens: int) -> bool:
        """Whether a thought that has not ended would be above the limit with an answer of
        `num_tokens`. Never without a limit, or where the checkpoint has no end of a thought."""
        is_set = self.limit is not None and self.end_id is not None
        return is_set and not self.has_ended and num_tokens > self.forced_place

    @property
    def forced_place(self) -> int:
        """Which token of the answer the end of the thought is at the latest, from 0."""
        assert self.limit is not None, "only for a budget that is spent"
        return self.limit

    @property
    def forced_id(self) -> int:
        """The end of the thought."""
        assert self.end_id is not None, "only for a budget that is spent"
        return self.end_id

    def note(self, token_ids: Sequence[int]) -> None:
        """Count tokens that were written."""
        self.num_tokens += len(token_ids)
        self.has_ended = self.has_ended or self.end_id in token_ids


@dataclass(frozen=True, slots=True)
class ModeRequest(Generic[ParamsT]):
    """The part of a request that a mode may know.

    rules: filters of this answer beside those of its sampling; whoever is given them moves them.
    """

    params: ParamsT
    sampling: SamplingParams
    ids: DecodingIds
    rules: tuple[RowFilter, ...] = ()

    def sampler(self, *, with_mask: bool = False) -> RowSampler:
        """With the filters of this answer. with_mask: the mask may be chosen."""
        own = filters_of(self.sampling, self.ids, with_mask=with_mask)
        return RowSampler(self.sampling, [*own, *self.rules])

    @property
    def ending_ids(self) -> frozenset[int]:
        """The tokens that end this answer."""
        return self.sampling.ending_ids(self.ids.eos)


class DecodingMode(ABC, Generic[ParamsT, StateT, ChoiceT]):
    """One way to write. Holds no requests: State is the mode's own dataclass, one per request.

    name: what a request asks for.
    title: for people.
    summary: how it writes, in a few words.
    options: what it can be told; Params may have fields beside, for tests and checks.
    Params: frozen dataclass of the options, checked when built.
    is_lossless: greedy text equals that of `ar` (float32).
    is_speculative: it drafts and verifies, so its steps have acceptance lengths.
    aliases: other names people use.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    options: ClassVar[tuple[ModeOption, ...]] = ()
    Params: ClassVar[type]
    is_lossless: ClassVar[bool]
    is_speculative: ClassVar[bool] = False
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def max_query_len(self, params: ParamsT) -> int:
        """Most rows one plan can have; the engine reserves cache for them."""

    @abstractmethod
    def start(
        self, request: ModeRequest[ParamsT], prompt_logits: Tensor
    ) -> tuple[StateT, StepResult]:
        """Begin after the prompt. prompt_logits: [V], predicts the first token of the answer."""

    @abstractmethod
    def plan(self, state: StateT, room: Room = WIDE_ROOM) -> StepPlan:
        """The rows of the next forward, at most `max_query_len`. Does not change the state. room: a
        mode whose plans can be narrower may heed it; those of today have one width each."""

    @abstractmethod
    def choose(self, states: Sequence[StateT], logits: Sequence[Tensor]) -> list[ChoiceT]:
        """Pick tokens for one forward of several requests, without changing their blocks.

        logits[i]: [Q_i, V] of the plan of states[i], or its last `num_logits` rows; may be
        overwritten. Takes all requests of the mode at once, so that sampling is one launch and one
        copy to the host.
        """

    @abstractmethod
    def advance(self, state: StateT, choice: ChoiceT) -> StepResult:
        """Advance one request by the forward that `choice` was picked from."""


def build_params(mode: type[DecodingMode[Any, Any, Any]], options: dict[str, Any]) -> Any:
    """The mode's Params from plain options. Raises ModeError for an option the mode lacks."""
    known = {f.name for f in fields(mode.Params)}
    unknown = sorted(set(options) - known)
    if unknown:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise ModeError(f"mode {mode.name} has no option {unknown[0]}; {has}")
    return mode.Params(**options)


@dataclass(slots=True)
class Block:
    """A block under construction.

    token_ids: what stands there, masks included.
    steps: forwards that had run when each position was filled.
    confidences: probability of what it was filled with, 1 where nothing was chosen.
    logprobs: of what it was filled with, where they are asked for.
    """

    token_ids: list[int]
    steps: list[int] = field(default_factory=list[int])
    confidences: list[float] = field(default_factory=list[float])
    logprobs: list[Logprobs | None] = field(default_factory=list["Logprobs | None"])

    def __post_init__(self) -> None:
        self.steps = [0] * len(self.token_ids)
        self.confidences = [1.0] * len(self.token_ids)
        self.logprobs = [None] * len(self.token_ids)

    def fill(
        self,
        position: int,
        token_id: int,
        *,
        step: int,
        confidence: float,
        logprobs: Logprobs | None = None,
    ) -> None:
        self.token_ids[position] = token_id
        self.logprobs[position] = logprobs
        self.steps[position] = step
        self.confidences[position] = confidence
