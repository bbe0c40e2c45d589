"""Every mode against the document's own loop, on the hash model: tokens, forwards, acceptance."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.twins.autoregressive import ar_generate
from tests.twins.block_diffusion import Options, generate
from tests.twins.chooser import Chooser
from tests.twins.forward import Outcome
from tests.twins.linear_speculation import linear_spec_generate
from tests.twins.quadratic_speculation import self_spec_generate
from tests.twins.toy import END_THINK, EOS, MASK, Job, Toy, run_toy
from vlm_dlm.decoding import MODES
from vlm_dlm.request import SamplingParams

PROMPTS = [[4], [9, 2, 7], [1, 1, 5, 8, 3]]
BUDGETS = [None, 0, 3, 9]
TOY = Toy(0.8, salt=5)


def sampling(temperature: float, seed: int, max_tokens: int, budget: int | None) -> SamplingParams:
    return SamplingParams(temperature, 1.0, seed, max_tokens, budget)


def run(mode: str, prompt: list[int], wanted: SamplingParams, **options: Any) -> Job:
    return run_toy(TOY, [Job(mode, prompt, MODES[mode].Params(**options), wanted)])[0]


def chooser(wanted: SamplingParams, banned: int | None = MASK) -> Chooser:
    return Chooser(wanted.temperature, wanted.seed or 0, banned)


def compare(job: Job, twin: Outcome, num_forwards: int) -> None:
    assert job.tokens == twin.tokens[: job.sampling.max_tokens]
    assert job.num_forwards == num_forwards
    # the first forward of quadratic speculation has nothing to verify
    is_quadratic = job.mode == "quadratic_spec"
    assert job.acceptance == (twin.acceptance[1:] if is_quadratic else twin.acceptance)


@pytest.mark.parametrize(("temperature", "budget"), [*product([0.0, 0.9], BUDGETS)])
def test_ar(temperature: float, budget: int | None) -> None:
    for seed, prompt in enumerate(PROMPTS):
        wanted = sampling(temperature, seed, 24, budget)
        twin = ar_generate(
            TOY,
            prompt,
            24,
            eos=EOS,
            chooser=chooser(wanted),
            max_thinking_tokens=budget,
            end_think=END_THINK,
        )
        compare(run("ar", prompt, wanted), twin, twin.nfe)


DIFFUSION = [
    {"block_length": 4},
    {"block_length": 4, "seed_first_token": False},
    {"block_length": 6, "threshold": 0.5},
    {"block_length": 6, "threshold": None},
    {"block_length": 6, "threshold": None, "steps": 4, "seed_first_token": False},
    {"block_length": 6, "threshold": 0.99, "steps": 2},
    {"block_length": 1},
    {"block_length": 3, "threshold": 0.0},
]


@pytest.mark.parametrize("options", DIFFUSION)
@pytest.mark.parametrize(("temperature", "budget"), [(0.0, None), (0.9, None), (0.0, 3), (0.7, 9)])
def test_block_diffusion(options: dict[str, Any], temperature: float, budget: int | None) -> None:
    length = options["block_length"]
    for seed, prompt in enumerate(PROMPTS):
        wanted = sampling(temperature, seed, 22, budget)
        twin = generate(
            TOY,
            prompt,
            -(-22 // length) * length,
            Options(**options, max_thinking_tokens=budget, end_think=END_THINK),
            mask=MASK,
            eos=EOS,
            chooser=chooser(wanted),
        )
        compare(run("diffusion", prompt, wanted, **options), twin, twin.nfe)


@pytest.mark.parametrize("options", DIFFUSION)
def test_block_diffusion_in_reference_form(options: dict[str, Any]) -> None:
    """The mask id may be predicted, and masks may be left where the steps run out."""
    length, num_masks = options["block_length"], 0
    for prompt in PROMPTS:
        wanted = sampling(0.0, 0, 2 * length, None)
        twin = generate(
            TOY,
            prompt,
            2 * length,
            Options(**options, is_exact=True),
            mask=MASK,
            eos=EOS,
            chooser=chooser(wanted, banned=None),
        )
        compare(
            run("diffusion", prompt, wanted, **options, is_exact_reference=True), twin, twin.nfe
        )
        num_masks += twin.tokens.count(MASK)
    if options.get("steps") == 2:
        assert num_masks > 0, "this case is here to leave masks"


@pytest.mark.parametrize("options", [{"block_length": 2}, {"block_length": 6}])
@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.95, 1.0])
@pytest.mark.parametrize(("temperature", "budget"), [(0.0, None), (0.9, None), (0.0, 3), (0.7, 9)])
def test_linear_speculation(
    options: dict[str, Any], threshold: float, temperature: float, budget: int | None
) -> None:
    for seed, prompt in enumerate(PROMPTS):
        wanted = sampling(temperature, seed, 20, budget)
        twin = linear_spec_generate(
            TOY,
            prompt,
            20,
            **options,
            mask=MASK,
            eos=EOS,
            chooser=chooser(wanted),
            threshold=threshold,
            max_thinking_tokens=budget,
            end_think=END_THINK,
        )
        job = run("linear_spec", prompt, wanted, **options, threshold=threshold)
        compare(job, twin, twin.nfe - 1)  # ours leaves the prefill out


@pytest.mark.parametrize("length", [2, 4])
@pytest.mark.parametrize(("temperature", "budget"), [(0.0, None), (0.9, None), (0.0, 3), (0.7, 9)])
def test_quadratic_speculation(length: int, temperature: float, budget: int | None) -> None:
    for seed, prompt in enumerate(PROMPTS):
        wanted = sampling(temperature, seed, 20, budget)
        twin = self_spec_generate(
            TOY,
            prompt,
            20,
            block_length=length,
            mask=MASK,
            eos=EOS,
            chooser=chooser(wanted),
            max_thinking_tokens=budget,
            end_think=END_THINK,
        )
        job = run("quadratic_spec", prompt, wanted, block_length=length)
        compare(job, twin, twin.nfe - 1)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_quadratic_speculation_writes_what_the_reference_start_writes(prompt: list[int]) -> None:
    """Drafting inside the prefill changes counts, not text."""
    twin = self_spec_generate(
        TOY,
        prompt,
        20,
        block_length=4,
        mask=MASK,
        eos=EOS,
        chooser=Chooser(banned=MASK),
        is_reference_start=True,
    )
    job = run("quadratic_spec", prompt, sampling(0.0, 0, 20, None), block_length=4)
    assert job.tokens == twin.tokens[:20]
    assert 0 <= job.num_forwards - (twin.nfe - 1) <= 2
