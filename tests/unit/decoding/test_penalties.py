"""Favours, bans and penalties are those of transformers, and hold in every mode as in `ar`."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessor,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from tests.twins.toy import EOS, MASK, VOCAB, Job, Toy, run_toy
from vlm_dlm.decoding import MODES, base
from vlm_dlm.decoding.filters import filters_of, walk
from vlm_dlm.decoding.penalties import FORBIDDEN, Counted, penalties_of
from vlm_dlm.decoding.sampling import RowSampler, pick_rows
from vlm_dlm.request import SamplingParams

PROMPT = [4, 9, 2]
WANTED: dict[str, dict[str, Any]] = {
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": 0.8},
    "raised": {"frequency_penalty": -0.5},
    "repetition": {"repetition_penalty": 1.7},
    "bias": {"logit_bias": ((3, 4.0), (7, -100.0))},
    "words": {"bad_words": ((5,), (1, 2), (8, 8, 8))},
    "all": {
        "presence_penalty": 0.3,
        "frequency_penalty": 0.2,
        "repetition_penalty": 1.2,
        "logit_bias": ((2, 1.0),),
        "bad_words": ((6,),),
    },
}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("ar", {}),
    ("linear_spec", {"block_length": 5}),
    ("linear_spec", {"block_length": 4, "threshold": 0.7}),
    ("quadratic_spec", {"block_length": 3}),
    ("diffusion", {"block_length": 4, "threshold": 0.5}),
]


def logits_after(wanted: dict[str, Any], written: list[int], row: torch.Tensor) -> torch.Tensor:
    """What the next token is chosen from, as the samplers of the modes see it."""
    sampling = SamplingParams(**wanted)
    sampler = RowSampler(sampling, penalties_of(sampling, PROMPT))
    sampler.note(written)
    changed = row.clone()[None]
    pick_rows([changed], [sampler], [[()]])  # in place where there is one request
    return changed[0]


def own_penalties(wanted: dict[str, Any], written: list[int], row: torch.Tensor) -> torch.Tensor:
    """OpenAI's formula and a plain sum, token by token; the rest by transformers."""
    row = row.clone()
    for token_id, value in wanted.get("logit_bias", ()):
        row[token_id] += value
    if "bad_words" in wanted:
        words = [list(word) for word in wanted["bad_words"]]
        banned = call(NoBadWordsLogitsProcessor(words), written, torch.zeros(VOCAB))
        row += torch.where(torch.isinf(banned), FORBIDDEN, 0.0)
    if "repetition_penalty" in wanted:
        processor = RepetitionPenaltyLogitsProcessor(wanted["repetition_penalty"])
        row = call(processor, PROMPT + written, row)
    for token_id in set(written):
        row[token_id] -= wanted.get("frequency_penalty", 0.0) * written.count(token_id)
        row[token_id] -= wanted.get("presence_penalty", 0.0)
    return row


def call(processor: LogitsProcessor, ids: list[int], row: torch.Tensor) -> torch.Tensor:
    given: Any = torch.tensor([ids], dtype=torch.long)
    scores: Any = row.clone()[None]
    return processor(given, scores)[0]


@pytest.mark.parametrize("name", WANTED)
def test_one_place_is_as_in_transformers(name: str) -> None:
    rng = random.Random(name)
    for _ in range(40):
        written = [rng.randrange(12) for _ in range(rng.randrange(1, 9))]
        row = torch.randn(VOCAB, generator=torch.Generator().manual_seed(rng.randrange(1000)))
        found = logits_after(WANTED[name], written, row)
        torch.testing.assert_close(found, own_penalties(WANTED[name], written, row))


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy engine gives no rules of its own to a request; here they come with the others."""

    def also(sampling: SamplingParams, *args: Any, **options: Any) -> Any:
        return [*filters_of(sampling, *args, **options), *penalties_of(sampling, PROMPT)]

    monkeypatch.setattr(base, "filters_of", also)


def write(mode: str, options: dict[str, Any], wanted: dict[str, Any]) -> list[list[int]]:
    params = MODES[mode].Params(**options)
    jobs = [
        Job(mode, [*PROMPT, i], params, SamplingParams(seed=i, max_tokens=24, **wanted))
        for i in range(4)
    ]
    return [job.tokens for job in run_toy(Toy(0.8, salt=3), jobs)]


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.usefixtures("beside")
def test_lossless_modes_write_what_ar_writes(name: str) -> None:
    expected = write("ar", {}, WANTED[name])
    assert expected != write("ar", {}, {}), "it should change something"
    for mode, options in OPTIONS:
        if MODES[mode].is_lossless:
            assert write(mode, options, WANTED[name]) == expected


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
@pytest.mark.usefixtures("beside")
def test_bad_words_come_in_no_mode(mode: str, options: dict[str, Any]) -> None:
    words = WANTED["words"]["bad_words"]
    for tokens in write(mode, options, {"bad_words": words, "temperature": 0.8}):
        for word in words:
            spans = zip(*(tokens[i:] for i in range(len(word))), strict=False)
            assert word not in set(spans)
        assert MASK not in tokens


def test_a_walk_goes_back_to_what_it_counted() -> None:
    rule = Counted(1.0, 0.5, 1.0)
    rule.push([1, 1, 2])
    rows: list[list[float]] = []
    for place in walk(rule, [[3, None], [3], [], [1, 1]]):
        row = torch.zeros(VOCAB)
        place.change(row)
        rows.append(row.tolist())
    last = rows[-1]
    assert last[1] == -1.0 - 0.5 * 4
    assert last[2] == -1.5
    assert last[3] == 0.0


def test_nothing_asked_for_is_no_rule() -> None:
    assert penalties_of(SamplingParams(), PROMPT) == []
    assert EOS < VOCAB
