"""Pure sampling functions by hand, and against the distributions they draw from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.twins.statistics import chi_square_p
from vlm_dlm.decoding.filters import Banned, filters_of
from vlm_dlm.decoding.sampling import (
    GREEDY,
    Picked,
    RowSampler,
    accept_prefix,
    pick_rows,
    round_to,
    tempered_distribution,
)
from vlm_dlm.request import DecodingIds, SamplingParams

IDS = DecodingIds(4, frozenset())


def sampler(temperature: float = 1.0, seed: int = 0, top_p: float = 1.0) -> RowSampler:
    return RowSampler(SamplingParams(temperature=temperature, seed=seed, top_p=top_p))


def pick(logits: Tensor, chosen: RowSampler) -> Picked:
    return pick_rows([logits.clone()], [chosen])[0]


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def test_temperature_by_hand() -> None:
    rows = torch.tensor([[0.0, math.log(2.0), math.log(4.0)]] * 2)
    probs = tempered_distribution(rows, column(1.0, 0.5), column(1.0, 1.0))
    expected = torch.tensor([[1 / 7, 2 / 7, 4 / 7], [1 / 21, 4 / 21, 16 / 21]])
    torch.testing.assert_close(probs, expected)


def test_a_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    rows = torch.tensor([[100.0, 101.0, -1e4, float("-inf")]])
    probs = tempered_distribution(rows, column(1e-38), column(1.0))
    assert probs.tolist() == [[0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("tiny", [5e-324, 1e-46, 1e-45, 1e-38])
def test_what_is_nothing_in_float32_leaves_the_best(tiny: float) -> None:
    """Smaller than the smallest number that tensors hold."""
    logits = torch.tensor([[0.5, 3.0, 1.0, float("-inf")]] * 50)
    for wish in (
        SamplingParams(temperature=1.0, top_p=tiny, seed=0),
        SamplingParams(temperature=1.0, top_p=tiny, top_k=2, seed=0),
        SamplingParams(temperature=1.0, top_p=tiny, min_p=tiny, seed=0),
        SamplingParams(temperature=tiny, seed=0),
    ):
        picked = pick(logits, RowSampler(wish))
        assert set(picked.token_ids) == {1}
        assert set(picked.drawn_confidences) == {1.0}
    unfiltered = pick(logits, RowSampler(SamplingParams(temperature=1.0, min_p=tiny, seed=0)))
    assert set(unfiltered.token_ids) == {0, 1, 2}


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.4, [0.0, 0.0, 1.0, 0.0]),  # the best always stays
        (0.55, [0.0, 0.375, 0.625, 0.0]),  # 0.5 < 0.55: the second is needed
        (0.85, [3 / 19, 6 / 19, 10 / 19, 0.0]),
        (1.0, [0.15, 0.3, 0.5, 0.05]),
    ],
)
def test_nucleus_by_hand(top_p: float, expected: list[float]) -> None:
    """The smallest set of best tokens whose mass reaches top_p."""
    rows = torch.tensor([[0.15, 0.3, 0.5, 0.05]]).log()
    probs = tempered_distribution(rows, column(1.0), column(top_p))
    torch.testing.assert_close(probs, torch.tensor([expected]))


@pytest.mark.parametrize(
    ("top_k", "min_p", "top_p", "expected"),
    [
        (2, 0.0, 1.0, [0.0, 0.375, 0.625, 0.0]),
        (1, 0.0, 1.0, [0.0, 0.0, 1.0, 0.0]),
        (4, 0.2, 1.0, [3 / 19, 6 / 19, 10 / 19, 0.0]),  # 0.05 < 0.2 * 0.5
        (4, 1.0, 1.0, [0.0, 0.0, 1.0, 0.0]),
        (2, 0.0, 0.6, [0.0, 0.0, 1.0, 0.0]),  # of what top_k leaves: 0.625 >= 0.6
        (3, 0.5, 0.7, [0.0, 0.375, 0.625, 0.0]),  # 0.625 < 0.7: the second is needed
        (99, 0.0, 1.0, [0.15, 0.3, 0.5, 0.05]),
    ],
)
def test_top_k_and_min_p_by_hand(
    top_k: int, min_p: float, top_p: float, expected: list[float]
) -> None:
    rows = torch.tensor([[0.15, 0.3, 0.5, 0.05]] * 2).log()
    limits = torch.tensor([[top_k], [99]]), column(min_p, 0.0)
    probs = tempered_distribution(rows, column(1.0, 1.0), column(top_p, 1.0), *limits)
    torch.testing.assert_close(probs, torch.tensor([expected, [0.15, 0.3, 0.5, 0.05]]))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_delayed_is_not_chosen_before_its_place(temperature: float) -> None:
    wish = SamplingParams(temperature, seed=1, min_tokens=3, stop_token_ids=(1, 999))
    logits = torch.full((6, 5), -20.0)
    logits[:, 0], logits[:, 1] = 9.0, 30.0
    trails = [[0] * place for place in range(6)]
    (picked,) = pick_rows([logits], [RowSampler(wish, filters_of(wish, IDS))], [trails])
    assert picked.token_ids == [0, 0, 0, 1, 1, 1]


def test_a_row_without_a_nucleus_does_not_depend_on_its_neighbours() -> None:
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * 8
    alone = tempered_distribution(rows[:2], column(1.0, 0.7), column(1.0, 1.0))
    beside = tempered_distribution(rows, column(1.0, 0.7, 1.0), column(1.0, 1.0, 0.5))
    assert torch.equal(alone, beside[:2])


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.3, 0.8)])
def test_draws_follow_the_distribution(temperature: float, top_p: float) -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 1.1, 0.0, float("-inf"), -0.4])
    num = 20000
    picked = pick(logits.repeat(num, 1), sampler(temperature, 1, top_p))
    probs = tempered_distribution(logits[None], column(temperature), column(top_p))[0]
    counts = torch.bincount(torch.tensor(picked.token_ids), minlength=7)
    assert counts[probs == 0].sum() == 0
    assert chi_square_p(counts, probs * num) > 1e-3
    wrong = (logits / (temperature * 1.15)).softmax(-1)
    assert chi_square_p(counts, wrong * num) < 1e-6, "the test can fail"
    by_id = dict(zip(picked.token_ids, picked.drawn_confidences, strict=True))
    assert by_id == pytest.approx({i: float(probs[i]) for i in by_id})


def test_draws_are_the_inverse_of_the_cumulated_distribution() -> None:
    """The first id whose cumulated mass exceeds the request's own uniform number."""
    logits = torch.randn(40, 9, generator=torch.Generator().manual_seed(2))
    uniforms = sampler(1.0, 7).uniforms(40)
    cdf = logits.double().softmax(-1).cumsum(-1)
    expected = [int((row > u).nonzero()[0]) for row, u in zip(cdf, uniforms, strict=True)]
    assert pick(logits, sampler(1.0, 7)).token_ids == expected


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 1), (1.0 - 2.0**-53, 3)])
def test_the_ends_of_the_unit_interval_never_hit_an_id_without_mass(
    uniform: float, expected: int
) -> None:
    class Fixed(RowSampler):
        def uniforms(self, num: int) -> Tensor:
            return torch.full((num,), uniform, dtype=torch.float64)

    logits = torch.tensor([[float("-inf"), 0.3, -0.2, 0.1, float("-inf")]])
    assert pick(logits, Fixed(SamplingParams(temperature=1.0))).token_ids == [expected]


def test_the_same_seed_draws_the_same_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(3)
    steps = [torch.randn(4, 30, generator=generator) for _ in range(5)]
    alone, together = sampler(0.8, 11), sampler(0.8, 11)
    for step, logits in enumerate(steps):
        others = [torch.randn(1 + step, 30), torch.randn(2, 30), torch.randn(3, 30)]
        batch = [others[0], logits.clone(), *others[1:]]
        samplers = [sampler(1.0, 5), together, GREEDY, sampler(1.5, 6, 0.5)]
        mixed = pick_rows(batch, samplers)[1]
        assert mixed == pick(logits, alone)


def test_seeds_differ_and_a_missing_seed_is_drawn() -> None:
    logits = torch.zeros(40, 30)
    assert pick(logits, sampler(1.0, 1)).token_ids != pick(logits, sampler(1.0, 2)).token_ids
    seeds = {RowSampler(SamplingParams(temperature=1.0)).seed for _ in range(8)}
    assert len(seeds) == 8


def test_greedy_takes_the_lowest_id_on_ties() -> None:
    logits = torch.full((3, 200), -1.0)
    logits[0, [150, 40, 199]] = 2.0
    logits[1, [0, 199]] = 2.0
    assert pick(logits, GREEDY).token_ids == [40, 0, 0]


def test_greedy_confidence_is_the_probability_without_temperature() -> None:
    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(4))
    picked = pick(logits, GREEDY)
    expected = logits.softmax(-1).max(-1)
    assert picked.token_ids == expected.indices.tolist()
    assert picked.confidences == pytest.approx(expected.values.tolist())
    assert picked.drawn_confidences == picked.confidences


def test_a_drawn_token_has_both_confidences() -> None:
    logits = torch.randn(6, 12, generator=torch.Generator().manual_seed(5))
    picked = pick(logits, sampler(0.5, 3))
    rows = torch.arange(6)
    plain = logits.softmax(-1)[rows, picked.token_ids]
    tempered = (logits / 0.5).softmax(-1)[rows, picked.token_ids]
    assert picked.confidences == pytest.approx(plain.tolist(), rel=1e-5)
    assert picked.drawn_confidences == pytest.approx(tempered.tolist(), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("is_native", [False, True])
def test_an_excluded_id_has_no_mass(temperature: float, is_native: bool) -> None:
    logits = torch.randn(300, 6, generator=torch.Generator().manual_seed(6))
    logits[:, 2] = 9.0
    chosen = RowSampler(SamplingParams(temperature, seed=1), [Banned((2,))])
    (picked,) = pick_rows([logits.clone()], [chosen], is_native_dtype=is_native)
    assert 2 not in picked.token_ids
    others = logits.clone()
    others[:, 2] = float("-inf")
    expected = others.softmax(-1)[torch.arange(300), picked.token_ids]
    assert picked.confidences == pytest.approx(expected.tolist(), rel=1e-4)
    (free,) = pick_rows([logits.clone()], [GREEDY])
    assert set(free.token_ids) == {2}


def test_native_confidence_stays_in_bfloat16() -> None:
    logits = torch.randn(8, 30, generator=torch.Generator().manual_seed(7)).bfloat16() * 4
    (native,) = pick_rows([logits.clone()], [GREEDY], is_native_dtype=True)
    (wide,) = pick_rows([logits.clone()], [GREEDY])
    expected = logits.softmax(-1).gather(-1, logits.argmax(-1)[:, None]).flatten()
    assert native.dtype == torch.bfloat16
    assert native.confidences == expected.double().tolist()
    assert wide.dtype == torch.float32
    assert wide.confidences != native.confidences
    assert native.token_ids == wide.token_ids


def test_a_threshold_is_rounded_like_torch_rounds_it() -> None:
    """0.9 is compared with bfloat16 confidences as 0.8984375, so exactly that value passes."""
    assert round_to(0.9, torch.bfloat16) == 0.8984375
    assert bool(torch.tensor(0.8984375, dtype=torch.bfloat16) >= 0.9)
    assert round_to(0.9, torch.float32) == pytest.approx(0.9, abs=1e-7)
    near = torch.tensor(0.9)
    assert bool(near >= 0.9) == (near.item() >= round_to(0.9, torch.float32))


@pytest.mark.parametrize(
    ("drafts", "verified", "expected"),
    [([], [5], 0), ([5], [5, 6], 1), ([5, 6], [5, 7, 8], 1), ([5, 6], [4, 6, 8], 0)],
)
def test_accept_prefix(drafts: list[int], verified: list[int], expected: int) -> None:
    assert accept_prefix(drafts, verified) == expected
