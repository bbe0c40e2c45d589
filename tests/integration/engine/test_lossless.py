"""Speculation changes what an answer costs, never what it says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.engine.harness import ask, make_core, prompt_of, run, tiny_model
from vlm_dlm.decoding import MODES

LOSSLESS = [name for name, mode in MODES.items() if mode.is_lossless and name != "ar"]
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {"block_length": length}) for name in LOSSLESS for length in (2, 3, 8)),
    ("linear_spec", {"block_length": 6, "threshold": 0.7}),
    ("linear_spec", {"block_length": 6, "use_adapter": False}),
]
PROMPTS = [prompt_of(1 + i % 13, i) for i in range(30)]


@pytest.mark.parametrize("model_seed", [0, 3])
def test_greedy_text_equals_ar(model_seed: int) -> None:
    core = make_core(tiny_model(model_seed), max_cache_tokens=16384)
    own: dict[str, Any] = {"max_tokens": 24}
    ar = run(core, *(ask(str(i), "ar", prompt, **own) for i, prompt in enumerate(PROMPTS)))
    for mode, options in CASES:
        answers = run(
            core, *(ask(str(i), mode, prompt, options, **own) for i, prompt in enumerate(PROMPTS))
        )
        for name, answer in answers.items():
            assert (answer.tokens, answer.ending) == (ar[name].tokens, ar[name].ending)
        saved = sum(len(a.tokens) - a.num_forwards for a in answers.values())
        longest = max(length for a in answers.values() for length in a.acceptance)
        assert longest > 1, f"{mode} {options} never accepted a draft, {saved} forwards saved"


@pytest.mark.parametrize("mode", LOSSLESS)
def test_the_default_options_are_lossless_too(mode: str) -> None:
    core = make_core(max_cache_tokens=16384)
    prompt, params = prompt_of(9, 4), vars_of(mode)
    ar = run(core, ask("a", "ar", prompt, max_tokens=40))["a"]
    own = run(core, ask("a", mode, prompt, params, max_tokens=40))["a"]
    assert own.tokens == ar.tokens


def vars_of(mode: str) -> dict[str, Any]:
    params = MODES[mode].Params()
    return {name: getattr(params, name) for name in params.__dataclass_fields__}
