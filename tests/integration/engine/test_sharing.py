"""Who shares a forward with whom: nobody's tokens wait long, and nobody is left out for long."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.integration.engine.harness import ask, make_core, prompt_of, run, run_alone
from tests.integration.engine.test_chunks import image, model, picture_prompt, picture_request
from tests.invariants import events_of
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.torch_runner import TorchRunner
from vlm_dlm.events import Committed, Finished, GenerationEvent
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import GenerationRequest

__all__ = ["model"]  # a fixture


def endless(name: str, mode: str = "ar", block_length: int = 6) -> GenerationRequest:
    options = {"block_length": block_length, "threshold": 1.0} if mode == "diffusion" else None
    return ask(name, mode, prompt_of(9, 2), options, max_tokens=100)


def num_cached(core: EngineCore, name: str) -> int:
    return next(s.cache_len for s in core.scheduler.running if s.id == name)


def is_prefilling(core: EngineCore, name: str) -> bool:
    return next(s.is_prefilling for s in core.scheduler.running if s.id == name)


def test_a_long_prompt_goes_in_small_pieces_beside_others() -> None:
    core = make_core(max_prompt_rows=100, max_prompt_rows_beside=7)
    core.submit(endless("writes"))
    core.step()
    core.submit(ask("long", "ar", prompt_of(60), max_tokens=4))
    for step in range(1, 9):
        events = core.step()
        assert num_cached(core, "long") == 7 * step
        assert any(isinstance(e, Committed) for e in events_of(events, "writes")), "every step"
    core.close()


def test_a_prompt_alone_goes_in_at_once() -> None:
    core = make_core(max_prompt_rows=100, max_prompt_rows_beside=7)
    core.submit(ask("long", "ar", prompt_of(60), max_tokens=4))
    core.step()
    assert not is_prefilling(core, "long")
    core.close()


def test_pieces_beside_others_change_no_answer() -> None:
    core = make_core(max_prompt_rows_beside=5)
    batch = [ask(mode, mode, prompt_of(20 + i, i), max_tokens=9) for i, mode in enumerate(MODES)]
    assert run(core, *batch) == {request.request_id: run_alone(request) for request in batch}


def wide_ones(core: EngineCore, num: int) -> list[str]:
    names = [f"wide{i}" for i in range(num)]
    for name in names:
        core.submit(endless(name, "diffusion", block_length=40))
    core.step()
    while any(is_prefilling(core, name) for name in names):
        core.step()
    return names


def num_forwards(core: EngineCore, names: list[str]) -> list[int]:
    return [s.num_forwards for name in names for s in core.scheduler.running if s.id == name]


def test_wide_plans_take_turns_beside_a_narrow_one() -> None:
    core = make_core(max_plan_rows_beside=80)
    names = wide_ones(core, 4)
    core.submit(endless("narrow"))
    core.step()
    before = num_forwards(core, names)
    for _ in range(6):
        events = core.step()
        assert any(isinstance(e, Committed) for e in events_of(events, "narrow")), "every step"
    after = num_forwards(core, names)
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 3, 3, 3]
    core.close()


def test_wide_plans_alone_share_every_forward() -> None:
    core = make_core(max_plan_rows_beside=80)
    names = wide_ones(core, 4)
    before = num_forwards(core, names)
    core.step()
    assert [b - a for a, b in zip(before, num_forwards(core, names), strict=True)] == [1] * 4
    core.close()


def test_one_image_is_encoded_per_step(model: VlmModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a request has, and without keeping those who have none."""
    encoded: list[int] = []
    encode = model.encode_images
    monkeypatch.setattr(model, "encode_images", lambda x: encoded.append(1) or encode(x))
    core = make_core(model)
    core.submit(endless("writes"))
    core.step()
    for name, first in (("eight", 20), ("three", 40)):
        num_images = 8 if name == "eight" else 3
        prompt = picture_prompt(tuple(image(first + i, 2, 2) for i in range(num_images)))
        core.submit(picture_request(name, "ar", prompt))
    core.submit(ask("text", "ar", prompt_of(5), max_tokens=1))
    events: list[GenerationEvent] = []
    for num_steps in range(1, 13):
        step = core.step()
        assert len(encoded) == min(num_steps, 11)
        assert any(isinstance(e, Committed) for e in events_of(step, "writes"))
        events += step
        if num_steps == 1:
            assert isinstance(events_of(events, "text")[-1], Finished)
    assert any(isinstance(e, Committed) for e in events_of(events, "eight"))
    core.close()


def test_pictures_without_memory_are_encoded_again(
    model: VlmModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = make_core(model)
    run(core, picture_request("kept", "ar", picture_prompt((image(7, 2, 2),))))
    runner, encode = core.runner, model.encode_images
    assert isinstance(runner, TorchRunner)

    def refuse(pixels: Tensor) -> Tensor:
        if runner.features.num_entries:
            raise torch.OutOfMemoryError("CUDA")
        return encode(pixels)

    monkeypatch.setattr(model, "encode_images", refuse)
    wanted = picture_request("a", "ar")
    answers = run(core, wanted)
    monkeypatch.undo()
    assert answers == run(make_core(model), wanted)


def test_pixels_are_let_go_once_they_are_features(model: VlmModel) -> None:
    core = make_core(model)
    core.submit(picture_request("a", "ar"))
    core.step()
    core.step()
    (state,) = core.scheduler.running
    assert [one.pixels for one in state.request.prompt.images] == [None] * 3
    assert state.request.prompt.key == picture_prompt().key
    core.close()


def test_plans_that_fill_the_budget_leave_prompts_their_share() -> None:
    core = make_core(max_batched_tokens=12)
    for name in ("a", "b"):
        core.submit(endless(name, "diffusion"))
    core.step()
    while any(state.is_prefilling for state in core.scheduler.running):
        core.step()
    core.submit(endless("late", "diffusion"))
    for _ in range(6):
        core.step()
    assert not is_prefilling(core, "late"), "9 tokens, 6 of them every second step"
    core.close()


def test_a_plan_as_wide_as_the_budget_takes_turns_with_prompts() -> None:
    core = make_core(max_batched_tokens=12, max_running=4)
    core.submit(endless("wide", "diffusion", 12))
    core.submit(endless("narrow", "ar"))
    for i in range(40):
        core.submit(ask(f"{i}", "ar", prompt_of(30, i), max_tokens=1))
    for _ in range(31):
        core.step()
    counts = {s.id: s.num_forwards for s in core.scheduler.running}
    assert counts["wide"] >= 8, "at least every third step"
    assert counts["narrow"] >= 8
    assert int(core.scheduler.waiting[0].id) >= 5, "prompts come through as well"
    core.close()
