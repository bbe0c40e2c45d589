"""What every mode promises the engine. A new mode is tested by being listed in MODES."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import pytest
import torch

from tests.invariants import assert_plan_is_sound
from tests.twins.forward import Mode
from tests.twins.toy import MASK, TOY_IDS, Job, Toy, run_toy, update
from vlm_dlm.decoding import MODES, ModeRequest, build_params, find_mode
from vlm_dlm.errors import BadInputError, ModeError
from vlm_dlm.request import SamplingParams

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ar": [{}],
    "diffusion": [
        {"block_length": 1},
        {"block_length": 4},
        {"block_length": 6, "threshold": None, "steps": 3},
        {"block_length": 5, "seed_first_token": False, "threshold": 0.5},
    ],
    "linear_spec": [
        {"block_length": 2},
        {"block_length": 6},
        {"block_length": 4, "threshold": 0.8},
    ],
    "quadratic_spec": [{"block_length": 2}, {"block_length": 4}],
}
CASES = [(name, options) for name in MODES for options in OPTIONS.get(name, [{}])]
BAD_OPTIONS = [
    ("diffusion", {"block_length": 0}, "block lengths 1 to 256, not 0"),
    ("diffusion", {"block_length": 257}, "not 257"),
    ("diffusion", {"threshold": 1.5}, "threshold of 0 to 1, not 1.5"),
    ("diffusion", {"threshold": -0.1}, "not -0.1"),
    ("diffusion", {"threshold": float("nan")}, "not nan"),
    ("diffusion", {"steps": 0}, "1 to 1024 steps"),
    ("linear_spec", {"block_length": 1}, "block lengths 2 to 256, not 1"),
    ("linear_spec", {"threshold": 2.0}, "not 2.0"),
    ("quadratic_spec", {"block_length": 33}, "block lengths 2 to 32, not 33"),
    ("ar", {"block_length": 4}, "no option block_length; it has none"),
    ("quadratic_spec", {"threshold": 0.5}, "no option threshold; it has block_length"),
]


def run(name: str, options: dict[str, Any], number: int = 0, max_tokens: int = 14) -> Job:
    params = MODES[name].Params(**options)
    sampling = SamplingParams(max_tokens=max_tokens, seed=number)
    return run_toy(Toy(), [Job(name, [3, 1 + number], params, sampling)])[0]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_plans_stay_inside_what_was_reserved(name: str, options: dict[str, Any]) -> None:
    mode = MODES[name]()
    max_rows = mode.max_query_len(mode.Params(**options))
    for number in range(3):
        job = run(name, options, number)
        for plan in job.plans:
            assert_plan_is_sound(plan, max_rows)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_longest_plan_is_reached(name: str, options: dict[str, Any]) -> None:
    """max_query_len is an upper bound, and not a wasteful one."""
    mode = MODES[name]()
    job = run(name, options, max_tokens=20)
    longest = max(len(plan.token_ids) for plan in job.plans)
    assert longest == mode.max_query_len(mode.Params(**options))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_planning_and_choosing_leave_the_state_alone(name: str, options: dict[str, Any]) -> None:
    toy, mode, cache = Toy(), MODES[name](), [5, 6]
    request = ModeRequest(mode.Params(**options), SamplingParams(seed=1), TOY_IDS)
    state, _ = mode.start(request, toy([7], cache, Mode.C, write=True)[-1])
    for _ in range(4):
        before = snapshot(state)
        plan = mode.plan(state)
        again = mode.plan(state)
        assert plan.token_ids == again.token_ids
        plan.token_ids.clear()  # a plan is the caller's; the state must not share its list
        logits = torch.randn(again.num_logits or len(again.token_ids), 24)
        (choice,) = mode.choose([state], [logits])
        assert snapshot(state) == before
        result = mode.advance(state, choice)
        assert 0 <= result.num_kv_kept <= len(again.token_ids)


def snapshot(state: Any) -> str:
    """All fields but the random generator, as text."""
    values = {f.name: getattr(state, f.name) for f in fields(state) if f.name != "sampler"}
    return repr(copy.deepcopy(values))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_prompt_logits_are_not_overwritten(name: str, options: dict[str, Any]) -> None:
    """They may be kept for the next request with the same prompt."""
    mode, logits = MODES[name](), torch.randn(24)
    before = logits.clone()
    mode.start(ModeRequest(mode.Params(**options), SamplingParams(), TOY_IDS), logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_kept_rows_are_final_tokens_and_come_first(name: str, options: dict[str, Any]) -> None:
    """The cache never takes a mask, and every row it takes stands at its own position."""
    job = run(name, options, 1)
    assert MASK not in job.cache
    for plan in job.plans:
        offsets = plan.offsets or list(range(len(plan.token_ids)))
        num_heads = next(
            (i for i, token in enumerate(plan.token_ids) if token == MASK), len(offsets)
        )
        assert offsets[:num_heads] == list(range(num_heads))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_mask_is_never_written(name: str, options: dict[str, Any]) -> None:
    """Even where it is by far the likeliest id."""
    mode = MODES[name]()
    request = ModeRequest(mode.Params(**options), SamplingParams(), TOY_IDS)
    tempting = torch.randn(1, 24)
    tempting[:, MASK] = 50.0
    state, result = mode.start(request, tempting[0])
    written = list(result.committed)
    for _ in range(6):
        plan = mode.plan(state)
        rows = plan.num_logits or len(plan.token_ids)
        (result,) = update(mode, [state], [tempting.repeat(rows, 1)])
        written += result.committed
    assert written
    assert MASK not in [token.id for token in written]


def test_every_mode_says_what_it_is() -> None:
    names = [name for mode in MODES.values() for name in (mode.name, *mode.aliases)]
    assert len(names) == len(set(names)), "a name or alias stands for two modes"
    for name, mode in MODES.items():
        assert mode.name == name
        assert mode.title
        assert mode.__doc__
        assert find_mode(name) is mode
        assert all(find_mode(alias) is mode for alias in mode.aliases)
        assert mode().max_query_len(mode.Params()) >= 1


def test_an_unknown_mode_is_refused_with_the_list() -> None:
    with pytest.raises(ModeError, match="ar, diffusion, linear_spec, quadratic_spec"):
        find_mode("beam")


@pytest.mark.parametrize(("name", "options", "words"), BAD_OPTIONS)
def test_options_out_of_range_or_unknown_are_refused(
    name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModeError, match=words):
        build_params(MODES[name], options)


def test_options_reach_the_params() -> None:
    params = build_params(MODES["diffusion"], {"block_length": 8, "threshold": None})
    assert (params.block_length, params.threshold, params.num_steps) == (8, None, 8)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": 11.0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"max_tokens": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"max_thinking_tokens": -1},
    ],
)
def test_sampling_out_of_range_is_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(BadInputError, match=name):
        SamplingParams(**values)
