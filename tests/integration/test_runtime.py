"""Loading by 'auto', and figures of computing a prompt, not of finding it in a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.errors import BadInputError, CheckpointError
from vlm_dlm.events import Committed, Finished, GenerationEvent
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import load_model
from vlm_dlm.request import SamplingParams
from vlm_dlm.runtime import Runtime, fitting_config

SHORT = SamplingParams(max_tokens=9)


@pytest.fixture(scope="module")
def runtime(tiny_checkpoint: Path) -> Runtime:
    return Runtime.load(tiny_checkpoint, device="cpu")


def test_small_weights_run_in_float32_on_a_cpu(runtime: Runtime) -> None:
    assert (runtime.device, runtime.dtype) == ("cpu", "float32")


def test_generate_and_compare_agree(runtime: Runtime, scene_file: Path) -> None:
    prompt = runtime.prompt("Describe the image.", [scene_file])
    alone = [runtime.generate(prompt, mode, sampling=SHORT).results[0] for mode in MODES]
    together = runtime.compare(prompt, sampling=SHORT).results
    assert [r.token_ids for r in alone] == [r.token_ids for r in together]
    assert [r.num_forwards for r in alone] == [r.num_forwards for r in together]


@pytest.mark.parametrize("with_image", [True, False])
def test_compare_computes_its_prompt_once_every_time(
    runtime: Runtime, scene_file: Path, with_image: bool
) -> None:
    prompt = runtime.prompt("Describe the image.", [scene_file] if with_image else [])
    for _ in range(2):
        seen: list[GenerationEvent] = []
        runtime.compare(prompt, ["ar", "diffusion"], sampling=SHORT, on_event=seen.append)
        ends = [event for event in seen if isinstance(event, Finished)]
        assert [end.stats.is_prompt_reused for end in ends] == [False, True]


def test_events_add_up_to_the_answer(runtime: Runtime, scene_file: Path) -> None:
    prompt = runtime.prompt("Describe the image.", [scene_file])
    seen: list[GenerationEvent] = []
    report = runtime.generate(prompt, "ar", sampling=SHORT, on_event=seen.append)
    text = "".join(e.text for e in seen if isinstance(e, Committed | Finished))
    assert text == report.results[0].text


def test_nothing_stays_in_the_engine_after_an_interruption(runtime: Runtime) -> None:
    def interrupt(event: GenerationEvent) -> None:
        if isinstance(event, Committed):
            raise KeyboardInterrupt

    prompt = runtime.prompt("Describe the image.")
    with pytest.raises(KeyboardInterrupt):
        runtime.generate(prompt, "ar", sampling=SHORT, on_event=interrupt)
    assert not runtime.core.has_work
    assert runtime.generate(prompt, "ar", sampling=SHORT).results[0].num_tokens == 9


@pytest.mark.parametrize("max_tokens", [1, 40])
def test_a_fitting_engine_is_large_enough_for_every_mode(
    tiny_checkpoint: Path, scene_file: Path, max_tokens: int
) -> None:
    params = {mode: MODES[mode].Params() for mode in MODES}
    config = fitting_config(64, max_tokens, params)
    runtime = Runtime.load(tiny_checkpoint, engine_config=config)
    prompt = runtime.prompt("Go", [scene_file])
    assert len(prompt.token_ids) <= 64
    seen: list[GenerationEvent] = []
    sampling = SamplingParams(max_tokens=max_tokens)
    report = runtime.compare(prompt, sampling=sampling, on_event=seen.append)
    assert [r.num_tokens for r in report.results] == [max_tokens] * 4
    ends = [event for event in seen if isinstance(event, Finished)]
    assert [end.stats.is_prompt_reused for end in ends] == [False, True, True, True]


def test_progress_counts_bytes(tiny_checkpoint: Path) -> None:
    calls: list[tuple[int, int]] = []
    Runtime.load(tiny_checkpoint, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1]


def test_loading_sets_the_memory_of_the_cache_aside(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def load(*arguments: Any, reserved_bytes: int, **others: Any) -> VlmModel:
        asked.append(reserved_bytes)
        return load_model(*arguments, reserved_bytes=reserved_bytes, **others)

    monkeypatch.setattr("vlm_dlm.runtime.load_model", load)
    limits = EngineConfig(max_cache_tokens=1024)
    loaded = Runtime.load(tiny_checkpoint, "cpu", engine_config=limits)
    assert asked == [loaded.runner.cache.data.nbytes]


def test_unknown_device_and_missing_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="unknown device"):
        Runtime.load(tiny_checkpoint, device="tpu")
    with pytest.raises(CheckpointError, match="no folder"):
        Runtime.load(tmp_path / "none")
