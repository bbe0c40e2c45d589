"""The two first tests of the design: mixed batches equal alone, speculations equal greedy AR."""

from __future__ import annotations

from typing import Any

import pytest

from tests.twins.toy import EOS, MASK, Job, Toy, run_toy
from vlm_dlm.decoding import MODES
from vlm_dlm.request import SamplingParams

LOSSLESS = [name for name, mode in MODES.items() if mode.is_lossless]
SHORT: dict[str, Any] = {name: {} if name == "ar" else {"block_length": 5} for name in MODES}


def job(mode: str, number: int, max_tokens: int = 20, temperature: float = 0.0) -> Job:
    prompt = [1 + number, 2, 3 + number % 4]
    sampling = SamplingParams(temperature=temperature, seed=number, max_tokens=max_tokens)
    return Job(mode, prompt, MODES[mode].Params(**SHORT[mode]), sampling)


@pytest.mark.parametrize("mode", LOSSLESS)
@pytest.mark.parametrize("agreement", [0.0, 0.8, 1.0])
def test_lossless_modes_write_what_ar_writes(mode: str, agreement: float) -> None:
    toy = Toy(agreement)
    for number in range(5):
        (own,) = run_toy(toy, [job(mode, number)])
        (ar,) = run_toy(toy, [job("ar", number)])
        assert own.tokens == ar.tokens
        assert own.num_forwards <= 2 * ar.num_forwards


def test_drafts_are_accepted_as_often_as_the_toy_agrees() -> None:
    """Guards the other tests: acceptance is neither never nor always the whole block."""
    for mode in ("linear_spec", "quadratic_spec"):
        jobs = run_toy(Toy(0.8), [job(mode, number) for number in range(8)])
        lengths = {length for one in jobs for length in one.acceptance}
        assert lengths == {1, 2, 3, 4, 5}
        (perfect,) = run_toy(Toy(1.0), [job(mode, 3)])
        full = perfect.acceptance[1:] if mode == "quadratic_spec" else perfect.acceptance
        assert set(full) == {5}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_mixed_batch_gives_what_each_request_gives_alone(temperature: float) -> None:
    toy = Toy()
    names = [*MODES, *MODES, *MODES]
    together = run_toy(toy, [job(name, i, 10 + i, temperature) for i, name in enumerate(names)])
    for i, name in enumerate(names):
        (alone,) = run_toy(toy, [job(name, i, 10 + i, temperature)])
        assert alone.tokens == together[i].tokens
        assert alone.num_forwards == together[i].num_forwards
        assert alone.acceptance == together[i].acceptance


@pytest.mark.parametrize("mode", MODES)
def test_the_cache_holds_exactly_the_tokens_before_the_next_rows(mode: str) -> None:
    """Section 4 of docs/decoding.md: prompt, then what was written, pending token left out."""
    toy = Toy()
    for number in range(6):
        (own,) = run_toy(toy, [job(mode, number)])
        held = own.cache[len(own.prompt) :]
        shared = min(len(held), len(own.tokens))
        assert held[:shared] == own.tokens[:shared]
        assert MASK not in own.cache


@pytest.mark.parametrize("mode", MODES)
def test_an_end_token_ends_the_answer(mode: str) -> None:
    jobs = run_toy(Toy(), [job(mode, number, 60) for number in range(12)])
    ended = [one for one in jobs if EOS in one.tokens]
    assert len(ended) >= 3
    assert all(one.tokens.index(EOS) == len(one.tokens) - 1 for one in ended)
