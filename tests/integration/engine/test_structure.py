"""An answer has the form that was asked for, in every mode, and lossless modes write what `ar`
writes under the same grammar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch

from tests.integration.engine.harness import (
    EOS,
    IDS,
    MASK,
    VOCAB,
    core_of,
    prompt_of,
    tiny_model,
)
from tests.integration.engine.letters import Letters
from tests.invariants import assert_no_pages_held
from tests.twins.forward import DenseForward, Mode
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.errors import StructureError
from vlm_dlm.events import Committed, Failed, Finished
from vlm_dlm.grammar.compiler import GrammarCompiler
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.structure import Structure, StructureKind

# Several ways to cut most texts into tokens.
PIECES = ["a", "b", "c", "d", "e", "f", "ab", "bc", "cab", "dd", "abcd", "fe", "g", "h", "i"]
LETTERS = Letters([*PIECES, *"jklm", *[""] * (VOCAB - len(PIECES) - 4)])
TEXTS = ["abcd", "abce", "b", "cabcabcab", "dddddddddddd", "fef", "g" * 9, "hihihi", "ace"]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("ar", {}),
    ("diffusion", {"block_length": 4, "threshold": 0.0}),
    ("diffusion", {"block_length": 6, "threshold": 0.9, "seed_first_token": False}),
    ("diffusion", {"block_length": 5, "threshold": None, "steps": 2}),
    ("linear_spec", {"block_length": 4}),
    ("linear_spec", {"block_length": 8, "threshold": 0.7}),
    ("quadratic_spec", {"block_length": 3}),
]
PROMPTS = [prompt_of(5 + seed, seed) for seed in range(12)]
CHOICE = Structure(StructureKind.CHOICE, json.dumps(TEXTS))


@lru_cache(maxsize=1)
def grammars() -> GrammarCompiler:
    return LETTERS.grammars(EOS)


def make_core(**limits: Any) -> EngineCore:
    config = EngineConfig(**{"page_size": 8, "max_cache_tokens": 8192, **limits})
    return core_of(tiny_model(), config=config, grammars=grammars())


def write(
    mode: str,
    options: dict[str, Any],
    structure: Structure = CHOICE,
    core: EngineCore | None = None,
    prompts: Sequence[tuple[int, ...]] = PROMPTS,
    **wanted: Any,
) -> list[tuple[list[int], str]]:
    """Tokens and why they end, of all prompts at once."""
    core = core or make_core()
    params = MODES[mode].Params(**options)
    requests = [
        GenerationRequest(
            str(i),
            PromptInput(prompt),
            mode,
            params,
            SamplingParams(**{"max_tokens": 30, "seed": i, "structure": structure, **wanted}),
        )
        for i, prompt in enumerate(prompts)
    ]
    tokens: dict[str, list[int]] = {}
    reasons: dict[str, str] = {}
    for event in core.run(requests):
        if isinstance(event, Committed):
            tokens.setdefault(event.request_id, []).extend(token.id for token in event.tokens)
        elif isinstance(event, Finished):
            reasons[event.request_id] = event.reason
        elif isinstance(event, Failed):
            reasons[event.request_id] = event.code
    core.close()
    assert_no_pages_held(core)
    return [(tokens.get(r.request_id, []), reasons[r.request_id]) for r in requests]


def text_of(token_ids: Sequence[int]) -> str:
    return LETTERS.text(token_id for token_id in token_ids if token_id != EOS)


@lru_cache(maxsize=1)
def literal() -> list[list[int]]:
    """What `ar` writes: at every step the best of the ids that may follow, found by trying all."""
    forward = DenseForward(tiny_model())
    answers: list[list[int]] = []
    for prompt in PROMPTS:
        cache: list[int] = []
        rows = forward(list(prompt), cache, Mode.C, write=True)
        written: list[int] = []
        while not written or written[-1] != EOS:
            allowed = LETTERS.allowed(written, TEXTS, EOS)
            best = max(allowed, key=lambda token_id: (rows[-1, token_id].item(), -token_id))
            written.append(best)
            rows = forward([best], cache, Mode.C, write=True)
        answers.append(written)
    return answers


def test_ar_takes_the_best_token_that_may_follow() -> None:
    assert [tokens for tokens, _ in write("ar", {})] == literal()
    assert len({text_of(tokens) for tokens in literal()}) > 2, "they should not all be one text"


@pytest.mark.parametrize(("mode", "options"), [o for o in OPTIONS if MODES[o[0]].is_lossless])
def test_lossless_modes_write_what_ar_writes(mode: str, options: dict[str, Any]) -> None:
    assert [tokens for tokens, _ in write(mode, options)] == literal()


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_every_answer_has_the_form(mode: str, options: dict[str, Any], temperature: float) -> None:
    for tokens, reason in write(mode, options, temperature=temperature):
        assert reason == "stop"
        assert text_of(tokens) in TEXTS
        assert MASK not in tokens


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_beside_bad_words_and_penalties_it_still_holds(mode: str, options: dict[str, Any]) -> None:
    """Also where the form leaves nothing but a bad word."""
    ids = LETTERS.encode_text("abcg")
    words = ((ids[0], ids[1]), (ids[3],), (ids[1], ids[2]))
    wanted: dict[str, Any] = {"bad_words": words, "repetition_penalty": 1.4, "min_tokens": 2}
    for temperature in (0.0, 0.9):
        for tokens, reason in write(mode, options, temperature=temperature, **wanted):
            assert reason == "stop"
            assert text_of(tokens) in TEXTS
    only = Structure(StructureKind.CHOICE, '["ggg"]')
    assert {text_of(tokens) for tokens, _ in write(mode, options, only, **wanted)} == {"ggg"}


@pytest.mark.parametrize("name", ["linear_spec", "quadratic_spec"])
def test_beside_them_lossless_modes_write_what_ar_writes(name: str) -> None:
    ids = LETTERS.encode_text("abcg")
    words = ((ids[0], ids[1]), (ids[3],))
    wanted: dict[str, Any] = {"bad_words": words, "frequency_penalty": 0.9}
    expected = write("ar", {}, **wanted)
    for mode, options in OPTIONS:
        if mode == name:
            assert write(mode, options, **wanted) == expected


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_an_answer_that_is_cut_says_so(mode: str, options: dict[str, Any]) -> None:
    structure = Structure(StructureKind.REGEX, "(ab|c){40}")
    for tokens, reason in write(mode, options, structure, max_tokens=7):
        assert reason == "length"
        assert len(tokens) == 7
        assert set(text_of(tokens)) <= set("abc")


@pytest.mark.parametrize(("mode", "options"), OPTIONS)
def test_beside_others_it_is_what_it_is_alone(mode: str, options: dict[str, Any]) -> None:
    together = write(mode, options, temperature=0.7)
    for i in (0, 3):
        prompt = [PROMPTS[i]]
        assert write(mode, options, prompts=prompt, temperature=0.7, seed=i) == [together[i]]


@pytest.mark.parametrize("mode", list(MODES))
def test_neither_min_tokens_nor_ignore_eos_breaks_it(mode: str) -> None:
    structure = Structure(StructureKind.CHOICE, '["b", "fe"]')
    for tokens, reason in write(mode, {}, structure, min_tokens=9, ignore_eos=True):
        assert reason == "stop"
        assert text_of(tokens) in ("b", "fe")


@pytest.mark.parametrize("mode", list(MODES))
def test_a_grammar_that_cannot_be_followed_ends_its_own_request(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matcher of one answer of several gives up on the way."""
    core = make_core()
    compiled = core.grammars
    assert compiled is not None
    plain = compiled.compile
    broken = Structure(StructureKind.REGEX, "a+b")

    def compile_(structure: Structure) -> Any:
        rule = plain(structure)
        if structure == broken:
            monkeypatch.setattr(rule, "fork", raising)
        return rule

    def raising() -> Any:
        raise StructureError("no more fuel")

    monkeypatch.setattr(compiled, "compile", compile_)
    requests = [
        GenerationRequest(
            name, PromptInput(PROMPTS[0]), mode, sampling=SamplingParams(structure=structure)
        )
        for name, structure in (("good", CHOICE), ("bad", broken))
    ]
    ends = {
        event.request_id: event
        for event in core.run(requests)
        if isinstance(event, Failed | Finished)
    }
    assert isinstance(ends["good"], Finished)
    assert isinstance(ends["bad"], Failed)
    assert ends["bad"].code == StructureError.code
    assert_no_pages_held(core)


def test_what_cannot_be_compiled_is_refused_before_it_is_queued() -> None:
    core = make_core()
    for kind, source in (
        (StructureKind.REGEX, "("),
        (StructureKind.JSON, '{"$ref": "#"}'),
        (StructureKind.JSON, "{"),
        (StructureKind.GRAMMAR, "root ::= nope"),
    ):
        sampling = SamplingParams(structure=Structure(kind, source))
        with pytest.raises(StructureError, match="cannot be used"):
            core.submit(GenerationRequest("x", PromptInput((1,)), sampling=sampling))
    assert not core.has_work


def test_confidences_are_the_models_own() -> None:
    """Whatever was allowed: with it or without, the same tokens have the same confidence."""
    plain: list[float] = []
    held: list[float] = []
    for structure, found in ((None, plain), (Structure(StructureKind.REGEX, "[a-m]*"), held)):
        sampling = SamplingParams(max_tokens=6, structure=structure)
        core = make_core()
        for event in core.run([GenerationRequest("x", PromptInput(PROMPTS[1]), sampling=sampling)]):
            if isinstance(event, Committed):
                found += [token.confidence for token in event.tokens]
    torch.testing.assert_close(torch.tensor(held[:1]), torch.tensor(plain[:1]))
    forbidding = replace(sampling, structure=Structure(StructureKind.CHOICE, '["m"]'))
    rows = DenseForward(tiny_model())(list(PROMPTS[1]), [], Mode.C, write=True).clone()
    rows[-1, IDS.mask] = float("-inf")
    for event in make_core().run(
        [GenerationRequest("x", PromptInput(PROMPTS[1]), sampling=forbidding)]
    ):
        if isinstance(event, Committed) and event.tokens[0].step == 1:
            expected = rows[-1].softmax(-1)[event.tokens[0].id].item()
            assert event.tokens[0].confidence == pytest.approx(expected, abs=1e-5)
