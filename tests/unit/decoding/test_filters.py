"""A rule about what may come next holds in every mode, and lossless modes write what `ar` writes
under the same rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.twins.toy import EOS, MASK, VOCAB, Job, Toy, run_toy
from vlm_dlm.decoding import MODES, base
from vlm_dlm.decoding.filters import (
    Banned,
    Delayed,
    RowFilter,
    Trail,
    filters_of,
    refused_places,
    walk,
)
from vlm_dlm.decoding.sampling import RowSampler, pick_rows
from vlm_dlm.request import SamplingParams

CPU = torch.device("cpu")
PROMPTS = [[4], [9, 2, 7], [1, 1, 5, 8, 3], [6, 6]]


class History(RowFilter):
    """Made up: a list of what came before, and a rule about it."""

    def __init__(self, tokens: Sequence[int | None] = ()) -> None:
        self.tokens = list(tokens)

    def refuses(self, token_id: int) -> bool:
        raise NotImplementedError

    def bias(self, size: int, device: torch.device) -> Tensor | None:
        refused = [token_id for token_id in range(size) if self.refuses(token_id)]
        bias = torch.zeros(size, device=device)
        bias[refused] = float("-inf")
        return bias

    def push(self, tokens: Trail) -> None:
        self.tokens += tokens

    def rollback(self, num: int) -> None:
        assert 0 <= num <= len(self.tokens)
        self.tokens = self.tokens[: len(self.tokens) - num]

    def fork(self) -> RowFilter:
        return type(self)(self.tokens)


class OnlyEven(History):
    def refuses(self, token_id: int) -> bool:
        return token_id % 2 == 1

    @staticmethod
    def holds(tokens: Sequence[int]) -> bool:
        return all(token % 2 == 0 for token in tokens)


class NeverTwice(History):
    """Needs what came before: the parity must change with every token."""

    def refuses(self, token_id: int) -> bool:
        last = self.tokens[-1] if self.tokens else None
        return last is not None and last % 2 == token_id % 2

    @staticmethod
    def holds(tokens: Sequence[int]) -> bool:
        return all(a % 2 != b % 2 for a, b in pairwise(tokens))


class NoReturn(History):
    """Needs all that came before: the last three tokens do not come again."""

    def refuses(self, token_id: int) -> bool:
        return token_id in self.tokens[-3:]

    @staticmethod
    def holds(tokens: Sequence[int]) -> bool:
        return all(token not in tokens[max(0, i - 3) : i] for i, token in enumerate(tokens))


class Staircase(NeverTwice):
    """The same from the left: nothing is said after a place that is not filled."""

    is_ordered = True


class Countdown(NoReturn):
    """Needs all that came before, from the left."""

    is_ordered = True


RULES = [OnlyEven, NeverTwice, NoReturn, Staircase, Countdown]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("ar", {}),
    ("diffusion", {"block_length": 6, "threshold": 0.0}),  # all at once, so all in conflict
    ("diffusion", {"block_length": 6, "threshold": 0.6, "seed_first_token": False}),
    ("diffusion", {"block_length": 5, "threshold": None, "steps": 2}),
    ("linear_spec", {"block_length": 4}),
    ("linear_spec", {"block_length": 6, "threshold": 0.7}),
    ("quadratic_spec", {"block_length": 3}),
]


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every answer has this rule beside its own."""

    def also(*args: Any, **options: Any) -> list[RowFilter]:
        return [*filters_of(*args, **options), request.param()]

    monkeypatch.setattr(base, "filters_of", also)
    return request.param


def answers(
    mode: str, options: dict[str, Any], prompts: list[list[int]] = PROMPTS, **wanted: Any
) -> list[list[int]]:
    params = MODES[mode].Params(**options)
    jobs = [
        Job(mode, [*prompt], params, SamplingParams(seed=i, max_tokens=30, **wanted))
        for i, prompt in enumerate(prompts)
    ]
    return [job.tokens for job in run_toy(Toy(0.8, salt=7), jobs)]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_a_rule_holds_in_every_mode(
    rule: Any, mode: str, options: dict[str, Any], temperature: float
) -> None:
    for tokens in answers(mode, options, temperature=temperature):
        assert rule.holds(tokens)
        assert MASK not in tokens


def test_the_model_alone_breaks_every_rule() -> None:
    for mode, options in OPTIONS:
        written = answers(mode, options)
        assert not any(all(rule.holds(tokens) for tokens in written) for rule in RULES)


@pytest.mark.parametrize("mode", [name for name in MODES if MODES[name].is_lossless])
@pytest.mark.parametrize("min_tokens", [0, 12])
def test_lossless_modes_write_what_ar_writes_under_a_rule(
    rule: Any, mode: str, min_tokens: int
) -> None:
    for other, options in OPTIONS:
        if other == mode:
            expected = answers("ar", {}, min_tokens=min_tokens)
            assert answers(mode, options, min_tokens=min_tokens) == expected


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_no_end_token_comes_before_min_tokens(mode: str, options: dict[str, Any]) -> None:
    prompts = [[i, 20 - i] for i in range(20)]
    if mode == "ar":
        assert any(EOS in tokens[:14] for tokens in answers(mode, options, prompts))
    later = answers(mode, options, prompts, min_tokens=14)
    assert all(EOS not in tokens[:14] for tokens in later)


def test_a_walk_goes_there_and_back() -> None:
    rule = NeverTwice([3])
    trails: list[Trail] = [(), (2,), (2, 3), (2, None), (), (5, 5, 4)]

    def allowed() -> Iterator[str]:
        for place in walk(rule, trails):
            bias = place.bias(2, CPU)
            assert bias is not None
            yield "".join("01"[i] for i in (0, 1) if bias[i] == 0.0)

    assert list(allowed()) == ["0", "1", "0", "01", "0", "1"]
    assert rule.tokens == [3], "the rule itself has not moved"


def test_places_that_a_rule_has_free_again() -> None:
    assert refused_places([NeverTwice([1])], [2, 4, 6, 7, 9], None) == [1, 4]
    assert refused_places([NeverTwice([1])], [2, 4, 6, 7, 9], 1) == [2, 4]
    assert refused_places([NeverTwice()], [None, 3, None, 3], None) == []
    assert refused_places([Delayed((7,), 3)], [7, 1, 7, 7], None) == [0, 2]


def test_each_request_has_its_own_rules_in_a_batch() -> None:
    rows = torch.zeros(2, VOCAB).index_fill(1, torch.tensor([3, 5]), 5.0)
    rows[:, 3] += 1.0
    samplers = [
        RowSampler(SamplingParams(), rules)
        for rules in ([Banned((3,))], [OnlyEven()], [], [Banned((3,)), NeverTwice([1])])
    ]
    picked = pick_rows([rows.clone() for _ in samplers], samplers, [[(), (2,)]] * 4)
    assert [one.token_ids for one in picked] == [[5, 5], [0, 0], [3, 3], [0, 5]]
