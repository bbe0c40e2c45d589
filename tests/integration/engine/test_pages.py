"""Where keys and values lie never shows in an answer, and every page comes back."""

from __future__ import annotations

import pytest

from tests.integration.engine.harness import (
    Answer,
    answers_of,
    ask,
    make_core,
    prompt_of,
    run,
    run_alone,
)
from tests.invariants import assert_no_pages_held, assert_pages_consistent
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.torch_runner import TorchRunner
from vlm_dlm.request import GenerationRequest


def requests() -> list[GenerationRequest]:
    return [
        ask(f"{mode}{i}", mode, prompt_of(9 + 7 * i, 3 + i), max_tokens=20)
        for i in range(3)
        for mode in MODES
    ]


@pytest.fixture(scope="module")
def alone() -> dict[str, Answer]:
    answers = {request.request_id: run_alone(request) for request in requests()}
    assert min(len(answer.tokens) for answer in answers.values()) > 10
    return answers


def fragment(core: EngineCore) -> list[int]:
    """Occupy every second page, so that no two free ones are neighbours."""
    allocator = core.allocator
    pages = allocator.take(allocator.num_pages)
    assert pages is not None
    allocator.give_back(pages[0::2])
    return pages[1::2]


@pytest.mark.parametrize("page_size", [1, 4, 8])
def test_scattered_pages_give_the_same_answers(page_size: int, alone: dict[str, Answer]) -> None:
    core = make_core(page_size=page_size, max_cache_tokens=2048)
    blocked = fragment(core)
    for request in requests():
        core.submit(request)
    events = core.step()
    assert not any(s.table.is_contiguous for s in core.scheduler.running if s.table)
    while core.has_work:
        events += core.step()
    assert answers_of(events) == alone
    assert_no_pages_held(core, kept=len(blocked))


def test_a_request_alone_on_scattered_pages(alone: dict[str, Answer]) -> None:
    core = make_core(page_size=2, max_cache_tokens=1024)
    fragment(core)
    for request in requests():
        assert run(core, request)[request.request_id] == alone[request.request_id]


@pytest.mark.parametrize("page_size", [1, 3, 16, 64])
def test_the_page_size_does_not_matter(page_size: int, alone: dict[str, Answer]) -> None:
    core = make_core(page_size=page_size)
    assert run(core, *requests()) == alone
    assert_no_pages_held(core)


def test_used_pages_of_others_are_never_read(alone: dict[str, Answer]) -> None:
    """A cache full of not-a-number from the start changes nothing."""
    core = make_core(page_size=4)
    assert isinstance(core.runner, TorchRunner)
    core.runner.cache.data.fill_(float("nan"))
    assert run(core, *requests()) == alone


def test_accounts_balance_after_every_step() -> None:
    """Little room, many requests: some wait, some hold, some end."""
    core = make_core(page_size=4, max_cache_tokens=160, num_kept_prompts=1)
    for i, mode in enumerate([*MODES] * 4):
        keep = i % 3 == 0
        core.submit(ask(str(i), mode, prompt_of(3 + i % 6, i), max_tokens=10, keep_prompt=keep))
    num_steps = 0
    while core.has_work:
        core.step()
        assert_pages_consistent(core)
        num_steps += 1
        assert num_steps < 2000
    core.close()
    assert_no_pages_held(core)
