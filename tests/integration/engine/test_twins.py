"""The engine on a real model against the document's own loops on the same weights, uncached.

Tokens, number of forwards and acceptance lengths must all agree.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.engine.harness import (
    MASK,
    Answer,
    ask,
    make_core,
    prompt_of,
    run,
    tiny_model,
    twin_answer,
)
from tests.invariants import assert_no_pages_held
from tests.twins.forward import DenseForward
from vlm_dlm.request import GenerationRequest

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("ar", {}),
    ("diffusion", {"block_length": 4}),
    ("diffusion", {"block_length": 4, "seed_first_token": False}),
    ("diffusion", {"block_length": 6, "threshold": 0.4}),
    ("diffusion", {"block_length": 6, "threshold": None}),
    ("diffusion", {"block_length": 6, "threshold": None, "steps": 4, "seed_first_token": False}),
    ("diffusion", {"block_length": 8, "threshold": 0.99, "steps": 2}),
    ("diffusion", {"block_length": 1}),
    ("diffusion", {"block_length": 32, "threshold": 0.0}),
    ("linear_spec", {"block_length": 2}),
    ("linear_spec", {"block_length": 6}),
    ("linear_spec", {"block_length": 6, "threshold": 0.5}),
    ("linear_spec", {"block_length": 5, "threshold": 0.95}),
    ("quadratic_spec", {"block_length": 2}),
    ("quadratic_spec", {"block_length": 4}),
]
PROMPTS = [prompt_of(3, 1), prompt_of(7, 2), prompt_of(12, 3)]


def requests(
    mode: str, options: dict[str, Any], max_tokens: int = 18, **sampling: Any
) -> list[GenerationRequest]:
    return [
        ask(str(i), mode, prompt, options, seed=i, max_tokens=max_tokens + i, **sampling)
        for i, prompt in enumerate(PROMPTS)
    ]


def compare(batch: list[GenerationRequest], model_seed: int = 0) -> list[Answer]:
    model = tiny_model(model_seed)
    core = make_core(model)
    answers = run(core, *batch)
    for request in batch:
        assert answers[request.request_id] == twin_answer(DenseForward(model), request)
    assert_no_pages_held(core)
    return list(answers.values())


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_greedy_answers_equal_the_twin(mode: str, options: dict[str, Any]) -> None:
    compare(requests(mode, options))


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_sampled_answers_equal_the_twin(mode: str, options: dict[str, Any]) -> None:
    compare(requests(mode, options, temperature=0.8), model_seed=1)


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
@pytest.mark.parametrize("budget", [0, 5])
def test_answers_with_a_thinking_budget_equal_the_twin(
    mode: str, options: dict[str, Any], budget: int
) -> None:
    compare(requests(mode, options, max_thinking_tokens=budget, max_tokens=12))


@pytest.mark.parametrize(
    "options",
    [{"block_length": 4}, {"block_length": 6, "threshold": 0.99, "steps": 2}],
)
def test_the_exact_reference_may_write_masks(options: dict[str, Any]) -> None:
    """Nothing is excluded, and masks are left where the steps run out."""
    model = tiny_model(2)
    for request in requests("diffusion", {**options, "is_exact_reference": True}):
        core = make_core(model)
        events = list(core.run([request]))
        tokens = [token.id for event in events for token in getattr(event, "tokens", ())]
        twin = twin_answer(DenseForward(model), request)
        assert tuple(tokens) == twin.tokens
        if "steps" in options:
            assert MASK in tokens


@pytest.mark.parametrize("mode", ["ar", "diffusion", "linear_spec", "quadratic_spec"])
def test_many_prompts_with_and_without_an_end_token(mode: str) -> None:
    """The grid is not vacuous: answers end in both ways, and drafts of every length survive."""
    options = {} if mode == "ar" else {"block_length": 4}
    batch = [ask(str(i), mode, prompt_of(2 + i % 9, i), options, max_tokens=20) for i in range(24)]
    answers = compare(batch, model_seed=3)
    assert {answer.ending for answer in answers} == {"stop", "length"}
    if mode.endswith("spec"):
        assert {length for a in answers for length in a.acceptance} == {1, 2, 3, 4}
