"""Above temperature 0, speculation draws from the autoregressive distribution itself.

Joint frequencies of whole short answers against exact probabilities, enumerated on the uncached
model. The same test refuses a verifier that takes every draft, so it can fail.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

import pytest
import torch

from tests.integration.engine.harness import core_of, fresh_model, tiny_config
from tests.integration.engine.letters import Letters
from tests.invariants import assert_no_pages_held
from tests.twins.forward import DenseForward, Mode
from tests.twins.statistics import chi_square_p
from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.linear_speculation import LinearSpeculation
from vlm_dlm.decoding.quadratic_speculation import QuadraticSpeculation
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.events import Committed
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import DecodingIds, GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.structure import Structure, StructureKind

VOCAB, MASK, EOS = 6, 5, 4
IDS = DecodingIds(MASK, frozenset([EOS]))
PROMPT = (1, 3, 0)
LETTERS = Letters(["a", "b", "c", "ab", "", ""])
_PIECES = ("ab", "ba", "c", "aab", "bb")
TEXTS = sorted({"".join(s) for num in (1, 2, 3, 4) for s in product(_PIECES, repeat=num)})
LENGTH, NUM_SAMPLES, TEMPERATURE = 4, 2000, 1.2
FILTERS: dict[str, Any] = {"min_p": 0.1, "top_k": 4, "top_p": 0.9, "min_tokens": 2}


@lru_cache(maxsize=1)
def model() -> VlmModel:
    return fresh_model(4, tiny_config(vocab_size=VOCAB))


def filtered(logits: torch.Tensor, place: int) -> list[float]:
    """Probabilities [V] by FILTERS, written out: min_p, then top_k, then top_p."""
    if place < FILTERS["min_tokens"]:
        logits[EOS] = float("-inf")
    probs = logits.softmax(-1).tolist()
    best = sorted(range(VOCAB), key=lambda token: -probs[token])
    kept = [token for token in best if probs[token] >= FILTERS["min_p"] * probs[best[0]]]
    kept = kept[: FILTERS["top_k"]]
    total, nucleus, mass = sum(probs[token] for token in kept), list[int](), 0.0
    for token in kept:
        if mass < FILTERS["top_p"] * total:
            nucleus.append(token)
            mass += probs[token]
    return [probs[token] / mass if token in nucleus else 0.0 for token in range(VOCAB)]


def held(logits: torch.Tensor, written: tuple[int, ...]) -> list[float]:
    """Probabilities [V] of what a text of TEXTS may go on with."""
    allowed = LETTERS.allowed(written, TEXTS, EOS)
    for token in range(VOCAB):
        if token not in allowed:
            logits[token] = float("-inf")
    return logits.softmax(-1).tolist()


@lru_cache(maxsize=3)
def exact(under: str = "nothing") -> dict[tuple[int, ...], float]:
    """Probability of every answer of at most LENGTH tokens, cut after the end token. under:
    nothing, filters or a grammar."""
    forward = DenseForward(model())
    done: dict[tuple[int, ...], float] = {}
    open_ends = {(): 1.0}
    while open_ends:
        longer: dict[tuple[int, ...], float] = {}
        for answer, mass in open_ends.items():
            logits = forward([*PROMPT, *answer], [], Mode.C)[-1].double() / TEMPERATURE
            logits[MASK] = float("-inf")
            if under == "filters":
                probs = filtered(logits, len(answer))
            else:
                probs = held(logits, answer) if under == "grammar" else logits.softmax(-1).tolist()
            for token, p in enumerate(probs):
                grown = (*answer, token)
                is_done = token == EOS or len(grown) == LENGTH
                if p > 0.0:
                    (done if is_done else longer)[grown] = mass * p
        open_ends = longer
    return done


def draw(
    mode: str, options: dict[str, Any], own: Any = None, **filters: Any
) -> dict[tuple[int, ...], int]:
    """Frequencies of whole answers; `own` replaces the mode."""
    limits = EngineConfig(page_size=4, max_cache_tokens=8192, max_running=250)
    core = core_of(model(), config=limits, ids=IDS, grammars=LETTERS.grammars(EOS))
    if own is not None:
        core.modes[mode] = own
    params = MODES[mode].Params(**options)
    requests = [
        GenerationRequest(
            str(seed),
            PromptInput(PROMPT),
            mode,
            params,
            SamplingParams(TEMPERATURE, seed=seed, max_tokens=LENGTH, **filters),
            keep_prompt=seed == 0,
        )
        for seed in range(NUM_SAMPLES)
    ]
    answers: dict[str, tuple[int, ...]] = {}
    for event in core.run(requests):
        if isinstance(event, Committed):
            tokens = tuple(token.id for token in event.tokens)
            answers[event.request_id] = answers.get(event.request_id, ()) + tokens
    core.close()
    assert_no_pages_held(core)
    counts: dict[tuple[int, ...], int] = {}
    for answer in answers.values():
        counts[answer] = counts.get(answer, 0) + 1
    return counts


def fit(counts: dict[tuple[int, ...], int], under: str = "nothing") -> float:
    probabilities = exact(under)
    assert set(counts) <= set(probabilities)
    observed = torch.tensor([counts.get(answer, 0) for answer in probabilities])
    assert int(observed.sum()) == NUM_SAMPLES
    expected = torch.tensor(list(probabilities.values())) * NUM_SAMPLES
    return chi_square_p(observed, expected)


class CredulousLinear(LinearSpeculation):
    """Takes every draft for verified."""

    def choose(self, states: Any, logits: Any) -> Any:
        picked = super().choose(states, logits)
        return [
            replace(p, token_ids=[*s.canvas.token_ids[1:], p.token_ids[-1]])
            if s.is_verifying
            else p
            for s, p in zip(states, picked, strict=True)
        ]


class CredulousQuadratic(QuadraticSpeculation):
    """The same for the heads."""

    def choose(self, states: Any, logits: Any) -> Any:
        picked = super().choose(states, logits)
        return [
            (replace(head, token_ids=[*s.drafts, head.token_ids[-1]]), branch)
            for s, (head, branch) in zip(states, picked, strict=True)
        ]


def test_the_enumeration_is_a_distribution_worth_testing() -> None:
    masses = torch.tensor(list(exact().values()), dtype=torch.float64)
    assert float(masses.sum()) == pytest.approx(1.0)
    assert int((masses * NUM_SAMPLES >= 8.0).sum()) > 30, "enough cells that are not pooled"


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("ar", {}),
        ("linear_spec", {"block_length": 3}),
        ("linear_spec", {"block_length": 3, "threshold": 0.6}),
        ("quadratic_spec", {"block_length": 3}),
    ],
)
def test_answers_follow_the_autoregressive_distribution(mode: str, options: dict[str, Any]) -> None:
    assert fit(draw(mode, options)) > 1e-3


@pytest.mark.parametrize("mode", ["ar", "linear_spec", "quadratic_spec"])
def test_answers_follow_it_with_filters_as_well(mode: str) -> None:
    options = {} if mode == "ar" else {"block_length": 3}
    assert fit(draw(mode, options, **FILTERS), "filters") > 1e-3


@pytest.mark.parametrize("mode", ["ar", "linear_spec", "quadratic_spec"])
def test_answers_follow_it_under_a_grammar_as_well(mode: str) -> None:
    options = {} if mode == "ar" else {"block_length": 3}
    structure = Structure(StructureKind.CHOICE, json.dumps(TEXTS))
    assert fit(draw(mode, options, structure=structure), "grammar") > 1e-3


@pytest.mark.parametrize("under", ["filters", "grammar"])
def test_what_they_are_under_matters(under: str) -> None:
    assert set(exact(under)) < set(exact())
    assert len(exact(under)) > 10


@pytest.mark.parametrize(
    ("mode", "own"),
    [("linear_spec", CredulousLinear()), ("quadratic_spec", CredulousQuadratic())],
)
def test_a_verifier_that_takes_every_draft_is_found_out(mode: str, own: Any) -> None:
    assert fit(draw(mode, {"block_length": 3}, own)) < 1e-6
