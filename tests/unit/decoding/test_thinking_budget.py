"""Section 6 of docs/decoding.md: every mode ends a thought in its own way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.twins.forward import Mode
from tests.twins.toy import END_THINK, MASK, TOY_IDS, Job, Toy, run_toy
from vlm_dlm.decoding import MODES, ModeRequest
from vlm_dlm.decoding.base import ThinkingBudget
from vlm_dlm.request import DecodingIds, SamplingParams

TOY = Toy(0.8, salt=9)
PROMPT = [3, 8]
LENGTH = 4


def run(mode: str, budget: int | None, prompt: list[int] = PROMPT) -> Job:
    options: dict[str, Any] = {} if mode == "ar" else {"block_length": LENGTH}
    sampling = SamplingParams(max_tokens=24, max_thinking_tokens=budget)
    return run_toy(TOY, [Job(mode, prompt, MODES[mode].Params(**options), sampling)])[0]


@pytest.mark.parametrize("mode", ["ar", "diffusion"])
@pytest.mark.parametrize("budget", [0, 1, 3, 4, 5, 9])
def test_the_end_stands_right_after_the_budget(mode: str, budget: int) -> None:
    free, forced = run(mode, None).tokens, run(mode, budget).tokens
    assert END_THINK not in free[: budget + 1], "this prompt does not end its thought by itself"
    assert forced.index(END_THINK) == budget
    if mode == "ar":
        assert forced[:budget] == free[:budget]


def test_linear_speculation_conditions_on_the_end_without_writing_it() -> None:
    """The forced token heads every draft until the model writes one itself."""
    free, forced = run("linear_spec", None), run("linear_spec", 3)
    assert END_THINK not in free.tokens[:6]
    num_written, cycle = 1, 0
    for plan in forced.plans:
        if MASK in plan.token_ids:
            is_forced = num_written > 3 and END_THINK not in forced.tokens[:num_written]
            assert (plan.token_ids[0] == END_THINK) == is_forced
        else:
            num_written += forced.acceptance[cycle]
            cycle += 1
    assert forced.tokens[:4] == free.tokens[:4]
    assert forced.tokens != free.tokens


@pytest.mark.parametrize("budget", [0, 2, 5])
def test_quadratic_speculation_puts_the_end_in_front_of_the_next_drafts(budget: int) -> None:
    free, forced = run("quadratic_spec", None), run("quadratic_spec", budget)
    where = forced.tokens.index(END_THINK)
    assert budget < where <= budget + LENGTH
    assert forced.tokens[:where] == free.tokens[:where]
    after = next(plan for plan in forced.plans if plan.token_ids[0] == END_THINK)
    heads = after.token_ids[: after.token_ids.index(MASK)]
    assert len(heads) == LENGTH
    assert heads[1] == free.tokens[where], "the other drafts move right by one"


@pytest.mark.parametrize("mode", MODES)
def test_a_budget_that_is_never_reached_changes_nothing(mode: str) -> None:
    assert run(mode, 200).tokens == run(mode, None).tokens


@pytest.mark.parametrize("mode", MODES)
def test_a_budget_needs_an_end_token(mode: str) -> None:
    """Without one in the checkpoint nothing is forced."""
    decoder = MODES[mode]()
    params = decoder.Params()
    sampling = SamplingParams(max_thinking_tokens=0)
    request = ModeRequest(params, sampling, DecodingIds(MASK, TOY_IDS.eos))
    logits = TOY(PROMPT, [], Mode.C)[-1]
    state, _ = decoder.start(request, logits)
    plain, _ = decoder.start(ModeRequest(params, SamplingParams(), TOY_IDS), logits)
    assert decoder.plan(state).token_ids == decoder.plan(plain).token_ids


def test_the_budget_counts_and_closes() -> None:
    budget = ThinkingBudget(2, END_THINK)
    budget.note([1, 2, 3])
    assert budget.num_tokens == 3
    assert [budget.is_spent(num_tokens) for num_tokens in (1, 2, 3)] == [False, False, True]
    assert (budget.forced_place, budget.forced_id) == (2, END_THINK)
    budget.note([4, END_THINK])
    assert budget.num_tokens == 5
    assert not budget.is_spent(5), "the thought has ended by itself"
    assert not ThinkingBudget(None, END_THINK).is_spent(5)
    assert not ThinkingBudget(2, None).is_spent(5)
