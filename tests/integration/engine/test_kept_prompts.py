"""A kept prompt saves its computation and changes nothing else."""

from __future__ import annotations

import pytest

from tests.integration.engine.harness import ask, make_core, prompt_of, run, run_alone
from tests.invariants import assert_no_pages_held
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.events import Finished

PROMPT = prompt_of(21, 6)
NUM_PAGES = 3  # of 8 tokens


def is_reused(core: EngineCore, name: str, mode: str, prompt: tuple[int, ...] = PROMPT) -> bool:
    last = list(core.run([ask(name, mode, prompt)]))[-1]
    assert isinstance(last, Finished)
    return last.stats.is_prompt_reused


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_reuse_gives_the_same_answer(mode: str, temperature: float) -> None:
    core = make_core(page_size=8)
    run(core, ask("first", "ar", PROMPT, keep_prompt=True, max_tokens=3))
    assert_no_pages_held(core, kept=NUM_PAGES)
    request = ask("again", mode, PROMPT, temperature=temperature, seed=4)
    for _ in range(2):
        assert run(core, request) == {"again": run_alone(request)}
    assert is_reused(core, "x", mode)
    assert_no_pages_held(core, kept=NUM_PAGES)
    core.close()
    assert_no_pages_held(core)


def test_copies_are_independent() -> None:
    """Several requests at once on one kept prompt, and the copy outlives them."""
    core = make_core()
    run(core, ask("first", "diffusion", PROMPT, keep_prompt=True))
    batch = [ask(mode, mode, PROMPT) for mode in MODES]
    assert run(core, *batch) == {request.request_id: run_alone(request) for request in batch}


def test_another_prompt_does_not_match() -> None:
    core = make_core()
    run(core, ask("first", "ar", PROMPT, keep_prompt=True))
    assert not is_reused(core, "a", "ar", PROMPT[:-1])
    assert not is_reused(core, "b", "ar", (*PROMPT, 3))
    assert not is_reused(core, "c", "ar", (PROMPT[0] ^ 1, *PROMPT[1:]))
    assert is_reused(core, "d", "ar")


def test_the_least_recently_used_entry_goes_first() -> None:
    core = make_core(num_kept_prompts=2)
    first, second, third = (prompt_of(10, seed) for seed in (1, 2, 3))
    for name, prompt in (("a", first), ("b", second)):
        run(core, ask(name, "ar", prompt, keep_prompt=True))
    assert is_reused(core, "touch", "ar", first)
    run(core, ask("c", "ar", third, keep_prompt=True))
    assert not is_reused(core, "x", "ar", second)
    assert is_reused(core, "y", "ar", first)
    assert is_reused(core, "z", "ar", third)


def test_kept_prompts_make_room_for_requests() -> None:
    """They never keep a request waiting that would fit without them."""
    core = make_core(max_cache_tokens=64, page_size=8)
    run(core, ask("a", "ar", PROMPT, keep_prompt=True, max_tokens=4))
    assert core.allocator.num_free == core.allocator.num_pages - NUM_PAGES
    request = ask("b", "diffusion", prompt_of(30, 2), max_tokens=16)
    assert run(core, request) == {"b": run_alone(request)}
    assert_no_pages_held(core)


def test_a_prompt_is_not_kept_where_there_is_no_room() -> None:
    core = make_core(max_cache_tokens=40, page_size=8)
    request = ask("a", "ar", PROMPT, keep_prompt=True, max_tokens=16)
    assert run(core, request) == {"a": run_alone(request)}
    assert_no_pages_held(core)


def test_keeping_the_same_prompt_twice_holds_it_once() -> None:
    core = make_core()
    batch = [ask(name, "ar", PROMPT, keep_prompt=True) for name in ("a", "b")]
    run(core, *batch)
    assert len(core.prompts) == 1
    assert_no_pages_held(core, kept=NUM_PAGES)


def test_no_entries_allowed_means_none_held() -> None:
    core = make_core(num_kept_prompts=0)
    run(core, ask("a", "ar", PROMPT, keep_prompt=True))
    assert_no_pages_held(core)
