"""The contract of one step: what a request puts through the next forward, and what came of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Visibility(Enum):
    """Who sees whom among the rows of one plan. Every row always sees all cached tokens."""

    CAUSAL = "causal"
    FULL = "full"


class Pattern(ABC):
    """The same, of a mode's own kind. A frozen dataclass: requests whose patterns are equal are
    attended together."""

    @abstractmethod
    def mask(self) -> Tensor:
        """bool [Q, Q], True = visible."""


class Origin(StrEnum):
    """How a token came to be.

    AR: the causal head's own choice, one token for one forward (also the first token of an answer).
    UNMASKED: filled in by denoising. DRAFTED: drafted, then accepted by the verifier.
    CORRECTED: the verifier's token in place of a refused draft. BONUS: the verifier's extra token
    after a wholly accepted draft.
    """

    AR = "ar"
    UNMASKED = "unmasked"
    DRAFTED = "drafted"
    CORRECTED = "corrected"
    BONUS = "bonus"


class ForwardKind(StrEnum):
    """What a forward is for, as its mode sees it; for the figures only: no step depends on it.

    AR: the next token. DENOISE: fill in a canvas. COMMIT: put a finished canvas into the cache.
    DRAFT: propose tokens. VERIFY: check a draft (it may propose the next one as well).
    """

    AR = "ar"
    DENOISE = "denoise"
    COMMIT = "commit"
    DRAFT = "draft"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Room:
    """What a plan may count on. A wish: a wider plan is run as well, perhaps later.

    num_rows: of the next forward, less what the others had in the last; at least 1.
    num_running: requests that share the engine, this one included.
    """

    num_rows: int
    num_running: int


WIDE_ROOM = Room(num_rows=1 << 30, num_running=1)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one request puts through the next forward; Q = len(token_ids).

    token_ids: [Q], may contain mask ids.
    visibility: CAUSAL, FULL, or a pattern of the mode for these Q rows.
    offsets: [Q] position of every row relative to the first uncached position, may repeat;
        None means 0..Q-1.
    use_draft_adapter: per request, so drafts and verifies may share a batch.
    num_logits: last rows whose logits the mode wants; None means all.
    kind: what the forward is counted as.
    """

    token_ids: list[int]
    visibility: Visibility | Pattern = Visibility.CAUSAL
    offsets: list[int] | None = None
    use_draft_adapter: bool = False
    num_logits: int | None = None
    kind: ForwardKind = ForwardKind.AR


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Natural logarithms of probabilities at one place, as the model gave them: without
    temperature, penalties or what was allowed.

    own: of the token that was chosen.
    top: id and value of the best, best first.
    """

    own: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """One final token and where it came from.

    block: index of the diffusion block, draft or step that held it, from 0.
    step: number of forwards the request had run when the token was chosen (prefill not counted).
    confidence: probability of the token under the untempered distribution that chose it.
    margin: the best logit less the second best where it was chosen; None in modes that do not say.
    logprobs: of the head and the forward that chose it; None unless asked for.
    """

    id: int
    block: int
    step: int
    confidence: float
    origin: Origin
    margin: float | None = None
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of one forward.

    committed: final tokens in order; empty while denoising or drafting.
    num_kv_kept: first rows of the plan whose keys and values become cache.
    canvas: the unfinished block without what is committed of it, for display only.
    acceptance_len: tokens emitted by a step that verified a draft, None for every other step.
    num_drafts: draft tokens that this verify step had before it.
    num_forwards: forwards this result stands for, as the reference counts them (the `start` of a
        mode runs on the prefill's logits, which are not a decode forward).
    """

    committed: tuple[Token, ...] = ()
    num_kv_kept: int = 0
    canvas: tuple[int, ...] | None = None
    acceptance_len: int | None = None
    num_drafts: int = 0
    num_forwards: int = 1
