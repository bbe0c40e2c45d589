"""A 'model' made of hashes, and an engine of three lines: the decoding modes without any network.

Causal logits of a row hash everything that the row sees, token and position; so one wrong mask
cell, position or cached token changes the answer. Draft logits, those of mask rows, favour with
probability `agreement` what the causal ones would say, so that drafts are accepted now and then.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.twins.forward import Mode, square
from vlm_dlm.decoding import MODES, DecodingMode, ModeRequest
from vlm_dlm.request import DecodingIds, SamplingParams
from vlm_dlm.step import Pattern, StepPlan, StepResult, Visibility

VOCAB, MASK, EOS, END_THINK = 24, 23, 22, 21
TOY_IDS = DecodingIds(MASK, frozenset([EOS]), END_THINK)
Seen = tuple[tuple[int, int], ...]  # (position, token), sorted


class Toy:
    """Logits of new rows after a cache. Also a `Forward` for the twins."""

    def __init__(self, agreement: float = 0.8, salt: int = 0) -> None:
        self.agreement = agreement
        self.salt = salt
        self._causal: dict[Seen, Tensor] = {}
        self._best: dict[Seen, int] = {}
        self._drafts: dict[tuple[Seen, int], Tensor] = {}  # a twin asks again what a mode asked

    def rows(
        self, x: Sequence[int], cache: Sequence[int], positions: Sequence[int], visible: Tensor
    ) -> Tensor:
        """Logits [Q, V]."""
        old = list(enumerate(cache))
        new = list(zip(positions, x, strict=True))
        out = []
        for sees, (position, token) in zip(visible.tolist(), new, strict=True):
            seen = tuple(
                sorted(old + [pair for pair, is_seen in zip(new, sees, strict=True) if is_seen])
            )
            out.append(self._draft(seen, position) if token == MASK else self._next(seen))
        return torch.stack(out)

    def __call__(
        self,
        x: Sequence[int],
        cache: list[int],
        mode: Mode,
        write: bool = False,
        adapter: bool = False,
    ) -> Tensor:
        positions = range(len(cache), len(cache) + len(x))
        logits = self.rows(x, cache, positions, square(len(x), mode))
        if write:
            cache.extend(x)
        return logits

    def masked(
        self, x: Sequence[int], cache: list[int], positions: Sequence[int], visible: Tensor
    ) -> Tensor:
        return self.rows(x, cache, positions, visible)

    def _next(self, seen: Seen) -> Tensor:
        """Causal logits [V] after everything seen."""
        if seen not in self._causal:
            logits = 2.0 * _noise((self.salt, "causal", seen))
            logits[EOS] -= 1.5
            logits[MASK] += 1.0  # tempting, and never allowed
            self._causal[seen] = logits
            self._best[seen] = int(logits[:MASK].argmax())
        return self._causal[seen]

    def _choice(self, seen: Seen) -> int:
        """The likeliest next id that is not the mask."""
        self._next(seen)
        return self._best[seen]

    def _draft(self, seen: Seen, position: int) -> Tensor:
        """Aligned logits [V] of the mask at `position`."""
        key = (seen, position)
        if key not in self._drafts:
            dice = torch.rand(3, generator=_generator((self.salt, "draft", *key))).tolist()
            is_agreed = dice[0] < self.agreement
            target = self._likely(*key) if is_agreed else int(dice[1] * (VOCAB - 3))
            logits = _noise((self.salt, "noise", *key))
            logits[target] += 3.0 + 6.0 * dice[2]
            self._drafts[key] = logits
        return self._drafts[key]

    def _likely(self, seen: Seen, position: int) -> int:
        """The causal choice at `position`, with the likeliest id wherever a mask stands before."""
        known = {place: token for place, token in seen if token != MASK}
        path: list[tuple[int, int]] = []
        for place in range(position + 1):
            token = known.get(place)
            path.append((place, self._choice(tuple(path)) if token is None else token))
        return path[position][1]


@dataclass
class Job:
    """One request to the toy engine."""

    mode: str
    prompt: list[int]
    params: Any = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    # filled while it runs
    state: Any = None
    cache: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    num_forwards: int = 0
    acceptance: list[int] = field(default_factory=list)
    plans: list[StepPlan] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        most = self.sampling.max_tokens
        return EOS in self.tokens or (most is not None and len(self.tokens) >= most)

    def book(self, result: Any) -> None:
        """Counts, cache and the stop rules."""
        last = self.plans[-1].token_ids if self.plans else []
        self.cache += last[: result.num_kv_kept]
        self.num_forwards += result.num_forwards
        if result.acceptance_len is not None:
            self.acceptance.append(result.acceptance_len)
        self.tokens += [token.id for token in result.committed]
        if EOS in self.tokens:
            del self.tokens[self.tokens.index(EOS) + 1 :]
        del self.tokens[self.sampling.max_tokens :]


def run_toy(toy: Toy, jobs: list[Job]) -> list[Job]:
    """All jobs together: plan, one round of logits, update mode by mode."""
    modes = {name: cls() for name, cls in MODES.items()}
    for job in jobs:
        mode = modes[job.mode]
        request = ModeRequest(job.params or mode.Params(), job.sampling, TOY_IDS)
        logits = toy(job.prompt, job.cache, Mode.C, write=True)[-1]
        job.state, result = mode.start(request, logits)
        job.book(result)
    while live := [job for job in jobs if not job.is_done]:
        logits = [_forward(toy, job, modes[job.mode].plan(job.state)) for job in live]
        for name, mode in modes.items():
            members = [i for i, job in enumerate(live) if job.mode == name]
            if members:
                states = [live[i].state for i in members]
                results = update(mode, states, [logits[i] for i in members])
                for i, result in zip(members, results, strict=True):
                    live[i].book(result)
    return jobs


def update(
    mode: DecodingMode[Any, Any, Any], states: Sequence[Any], logits: Sequence[Tensor]
) -> list[StepResult]:
    """Choose and advance: one whole step of several requests."""
    choices = mode.choose(states, logits)
    return [mode.advance(s, choice) for s, choice in zip(states, choices, strict=True)]


def _forward(toy: Toy, job: Job, plan: StepPlan) -> Tensor:
    job.plans.append(plan)
    size = len(plan.token_ids)
    if isinstance(plan.visibility, Pattern):
        seen = plan.visibility.mask()
    else:
        seen = square(size, Mode.C if plan.visibility is Visibility.CAUSAL else Mode.D)
    positions = [len(job.cache) + offset for offset in plan.offsets or range(size)]
    logits = toy.rows(plan.token_ids, job.cache, positions, seen)
    return logits if plan.num_logits is None else logits[-plan.num_logits :]


def _generator(key: object) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def _noise(key: object) -> Tensor:
    return torch.randn(VOCAB, generator=_generator(key))
