"""What can never run is refused at the door, with both numbers; what can run is not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.engine.harness import ask, make_core, prompt_of, run
from tests.invariants import assert_no_pages_held
from vlm_dlm.decoding import MODES
from vlm_dlm.errors import BadInputError, CapacityError, ModeError, PromptError
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams


def refused(core: Any, request: GenerationRequest, error: type[Exception], words: str) -> None:
    """Refused without a trace: nothing queued, nothing held, the name free again."""
    with pytest.raises(error, match=words):
        core.submit(request)
    assert_no_pages_held(core)
    assert core.abort(request.request_id) == []


def test_an_empty_prompt() -> None:
    refused(make_core(), ask("a", "ar", ()), PromptError, "empty")


def test_prompt_and_answer_beyond_the_context() -> None:
    """The tiny model's context holds 256 tokens."""
    core = make_core()
    words = r"length is 256 tokens.* 257 tokens \(200 in the messages, 57 in the completion\)"
    refused(core, ask("a", "ar", prompt_of(200), max_tokens=57), PromptError, words)
    core.submit(ask("a", "ar", prompt_of(200), max_tokens=56))
    core.close()


def test_a_configured_context_comes_first() -> None:
    core = make_core(max_context=20)
    refused(core, ask("a", "ar", prompt_of(10), max_tokens=11), PromptError, "length is 20 tokens")
    assert run(core, ask("a", "ar", prompt_of(10), max_tokens=10))


def test_a_step_wider_than_the_engine() -> None:
    core = make_core(max_batched_tokens=71)
    wide = {"block_length": 8}
    refused(
        core, ask("a", "quadratic_spec", (1, 2), wide), CapacityError, "needs 72 rows; .* runs 71"
    )
    assert run(core, ask("a", "quadratic_spec", (1, 2), {"block_length": 7}))


def test_a_request_larger_than_the_whole_cache() -> None:
    core = make_core(max_cache_tokens=64, page_size=8)
    words = "cache for 65 tokens; .* has 64"
    options = {"block_length": 8}
    refused(
        core, ask("a", "diffusion", prompt_of(41), options, max_tokens=16), CapacityError, words
    )
    assert run(core, ask("a", "diffusion", prompt_of(40), options, max_tokens=16))
    assert_no_pages_held(core)


@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_fits_exactly_runs_to_its_end(mode: str) -> None:
    """The reservation is enough, down to the last slot."""
    options = {} if mode == "ar" else {"block_length": 5}
    rows = MODES[mode]().max_query_len(MODES[mode].Params(**options))
    for num_prompt in range(1, 8):
        core = make_core(max_cache_tokens=num_prompt + 30 + rows, page_size=1)
        request = ask("a", mode, prompt_of(num_prompt), options, max_tokens=30)
        (answer,) = run(core, request).values()
        assert answer.ending in ("stop", "length")


def test_a_name_that_is_running_already() -> None:
    core = make_core()
    core.submit(ask("a", "ar", (1, 2)))
    with pytest.raises(BadInputError, match="'a' is running already"):
        core.submit(ask("a", "diffusion", (3,)))
    core.close()
    assert run(core, ask("a", "ar", (1, 2)))
    assert run(core, ask("a", "ar", (1, 2))), "the name is free once the request has ended"


def test_an_unknown_mode_and_foreign_options() -> None:
    core = make_core()
    unknown = GenerationRequest("a", PromptInput((1,)), "beam")
    refused(core, unknown, ModeError, "unknown mode 'beam'")
    foreign = GenerationRequest("a", PromptInput((1,)), "ar", MODES["diffusion"].Params())
    refused(core, foreign, ModeError, "options of another mode")


@pytest.mark.parametrize("mode", [alias for m in MODES.values() for alias in m.aliases])
def test_aliases_run(mode: str) -> None:
    sampling = SamplingParams(max_tokens=2)
    request = GenerationRequest("a", PromptInput((1, 2)), mode, sampling=sampling)
    core = make_core()
    core.submit(request)
    started = core.step()[0]
    assert getattr(started, "mode", None) in MODES
    core.close()
