"""POST /v1/compare: one prompt, several modes, whole and as one stream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.modes import ScriptedModes, running
from tests.api.serving import data_uri, png
from vlm_dlm.decoding.block_diffusion import BlockDiffusionParams
from vlm_dlm.decoding.linear_speculation import LinearSpeculationParams
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.local_engine import LocalEngine

PATH = "/v1/compare"
ASK: dict[str, Any] = {"prompt": "What is this?"}
MODES = ["ar", "diffusion", "linear_spec", "quadratic_spec"]
WORDS = ("There ", "is ", "one ", "object.")


def shares(reply: dict[str, Any]) -> dict[str, tuple[bool, int, float]]:
    return {
        one["mode"]: (
            one["agreement"]["is_identical"],
            one["agreement"]["num_equal_tokens"],
            one["agreement"]["share"],
        )
        for one in reply["results"]
    }


def test_all_modes_one_after_another_with_one_prompt() -> None:
    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            reply = await server.answer(PATH, {**ASK, "images": [data_uri(png())]})
        assert [one["mode"] for one in reply["results"]] == MODES
        assert [request.mode for request in engine.requests] == MODES
        assert [request.keep_prompt for request in engine.requests] == [True, True, True, False]
        assert len({id(request.prompt) for request in engine.requests}) == 1
        for one in reply["results"]:
            assert (one["text"], one["num_tokens"], one["error"]) == ("".join(WORDS), 4, None)
            assert one["metrics"]["mode"] == one["mode"]
            assert one["usage"]["completion_tokens"] == one["timings"]["predicted_n"] == 4
        summary = reply["summary"]
        assert summary["image_tokens"] > 0
        assert summary["prompt_tokens"] == reply["results"][0]["usage"]["prompt_tokens"]
        assert list(summary["agreement"]) == MODES
        assert (summary["is_parallel"], summary["is_prompt_cached"]) == (False, False)

    asyncio.run(run())


def test_agreement_with_ar_and_the_first_difference() -> None:
    longer = Script((*WORDS, " Yes."))
    shorter = Script(WORDS[:3])

    async def run() -> None:
        async with running(ScriptedModes(diffusion=longer, linear_spec=shorter)) as server:
            reply = await server.answer(PATH, ASK)
            without_ar = await server.answer(PATH, {**ASK, "modes": "linear_spec,diffusion"})
        assert shares(reply) == {
            "ar": (True, 4, 1.0),
            "diffusion": (False, 4, 0.8),
            "linear_spec": (False, 3, 0.75),
            "quadratic_spec": (True, 4, 1.0),
        }
        by_mode = {one["mode"]: one["agreement"] for one in reply["results"]}
        assert by_mode["ar"]["first_difference"] is None
        difference = by_mode["diffusion"]["first_difference"]
        assert (difference["index"], difference["ar"]) == (4, None)
        assert difference["own"] is not None
        assert by_mode["linear_spec"]["first_difference"]["own"] is None
        assert by_mode == reply["summary"]["agreement"]
        assert [one["agreement"] for one in without_ar["results"]] == [None, None]
        assert [one["mode"] for one in without_ar["results"]] == ["linear_spec", "diffusion"]

    asyncio.run(run())


def test_every_event_of_a_stream_names_its_mode_and_the_summary_is_last() -> None:
    async def run() -> None:
        async with running(ScriptedModes(Script(has_canvas=True))) as server:
            plain = await server.events(PATH, ASK)
            full = await server.events(PATH, {**ASK, "options": {"include_drafts": True}})
            whole = await server.answer(PATH, ASK)
        assert [kind for kind, _ in plain] == [*["started", *["text"] * 4, "result"] * 4, "summary"]
        assert [data["mode"] for _, data in plain[:-1]] == [m for m in MODES for _ in range(6)]
        for one in whole["results"]:
            own = [event for event in plain[:-1] if event[1]["mode"] == one["mode"]]
            assert "".join(data["text"] for kind, data in own if kind == "text") == one["text"]
            assert own[-1][1]["text"] == one["text"]
            assert own[-1][1]["agreement"] == one["agreement"]  # ar came first
        tokens = [data["tokens"] for kind, data in plain if kind == "text"]
        assert tokens[:2] == [
            [[0, "ar", 0, 1, 1.0, None, ""]],
            [[1, "ar", 1, 2, 1.0, None, ""]],
        ]
        assert plain[-1][1]["agreement"] == whole["summary"]["agreement"]
        drafts = [data["mode"] for kind, data in full if kind == "draft"]
        assert drafts == [mode for mode in MODES for _ in range(4)]

    asyncio.run(run())


def test_agreement_is_in_the_summary_where_ar_ran_last() -> None:
    async def run() -> None:
        async with running(ScriptedModes()) as server:
            events = await server.events(PATH, {**ASK, "modes": ["diffusion", "ar"]})
        results = [data for kind, data in events if kind == "result"]
        assert results[0]["agreement"] is None
        assert events[-1][1]["agreement"]["diffusion"]["is_identical"] is True

    asyncio.run(run())


@pytest.mark.parametrize("max_running", [1, 8])
def test_in_parallel_the_others_start_once_the_prompt_is_computed(max_running: int) -> None:
    script = Script(WORDS, step_s=0.01, max_running=max_running)

    async def run() -> None:
        async with running(ScriptedModes(script)) as server:
            events = await server.events(PATH, {**ASK, "parallel": True})
            assert server.service.num_running == 0
        assert [data["mode"] for _, data in events[:2]] == ["ar", "ar"]
        assert sorted(data["mode"] for kind, data in events if kind == "result") == sorted(MODES)
        starts = [i for i, (kind, _) in enumerate(events) if kind == "started"]
        ends = [i for i, (kind, _) in enumerate(events) if kind == "result"]
        assert (starts[-1] < ends[0]) == (max_running > 1)
        assert events[-1][0] == "summary"
        assert events[-1][1]["is_parallel"] is True

    asyncio.run(run())


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("failing", ["ar", "linear_spec"])
def test_a_mode_that_fails_is_an_entry_of_its_own(failing: str, is_parallel: bool) -> None:
    async def run() -> None:
        engine = ScriptedModes(**{failing: Script(fail_after=2)})
        async with running(engine) as server:
            body = {**ASK, "parallel": is_parallel}
            reply = await server.answer(PATH, body)
            events = await server.events(PATH, body)
        by_mode = {one["mode"]: one for one in reply["results"]}
        bad = by_mode.pop(failing)
        assert bad["error"]["code"] == "engine_error"
        assert (bad["text"], bad["metrics"], bad["agreement"]) == ("There is ", None, None)
        for one in by_mode.values():
            assert (one["error"], one["text"]) == (None, "".join(WORDS))
            assert (one["agreement"] is None) == (failing == "ar")
        results = {data["mode"]: data for kind, data in events if kind == "result"}
        assert results[failing]["error"] == bad["error"]
        assert len(results) == 4
        assert events[-1][0] == "summary"

    asyncio.run(run())


def test_only_when_all_modes_fail_is_the_reply_an_error() -> None:
    async def run() -> None:
        async with running(ScriptedModes(Script(fail_after=1))) as server:
            error = await server.error(PATH, ASK, 500)
            events = await server.events(PATH, ASK)
        assert error["code"] == "engine_error"
        assert [kind for kind, _ in events].count("result") == 4
        assert events[-1][1]["error"]["code"] == "engine_error"

    asyncio.run(run())


def test_shared_and_own_options() -> None:
    body = {
        **ASK,
        "modes": ["ar", "diffusion", "linear_spec"],
        "options": {"threshold": 0.5, "block_length": 16},
        "mode_options": {"dlm": {"threshold": 0.8, "steps": 3}},
    }

    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            await server.answer(PATH, body)
        params = {request.mode: request.params for request in engine.requests}
        assert params["diffusion"] == BlockDiffusionParams(16, 0.8, 3)
        assert params["linear_spec"] == LinearSpeculationParams(16, 0.5)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({**ASK, "modes": []}, 400, "modes must not be empty"),
        ({**ASK, "modes": "ar,,"}, 400, "unknown mode"),
        ({**ASK, "modes": ["ar", "fast"]}, 400, "unknown mode"),
        ({**ASK, "modes": ["diffusion", "dlm"]}, 400, "diffusion is listed twice"),
        ({**ASK, "modes": ["ar"] * 17}, 400, "modes has more entries"),
        ({**ASK, "modes": [1]}, 400, "modes.0 must be text"),
        ({**ASK, "mode": "ar"}, 400, "mode is not known here"),
        ({**ASK, "modes": ["ar"], "options": {"threshold": 0.5}}, 400, "no option threshold"),
        ({**ASK, "mode_options": {"ar": {"threshold": 0.5}}}, 400, "no option threshold"),
        ({**ASK, "mode_options": {"dlm": {"treshold": 0.5}}}, 400, "treshold is not known"),
        ({**ASK, "mode_options": {"dlm": {"block_length": 0}}}, 400, "must be at least 1"),
        ({**ASK, "mode_options": {"quadratic_spec": {"block_length": 64}}}, 400, "2 to 32"),
        ({**ASK, "modes": ["ar"], "mode_options": {"dlm": {}}}, 400, "not among the modes"),
        ({**ASK, "mode_options": {"fast": {}}}, 400, "unknown mode"),
        ({**ASK, "mode_options": {"dlm": {}, "diffusion": {}}}, 400, "diffusion twice"),
        ({**ASK, "mode_options": {"dlm": {"steps": 2, "num_inference_steps": 2}}}, 400, "the same"),
        ({**ASK, "parallel": 1}, 400, "parallel must be true or false"),
    ],
)
def test_what_cannot_be_honoured_is_refused(body: Any, status: int, says: str) -> None:
    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            error = await server.error(PATH, body, status)
        assert says in error["message"]
        assert engine.requests == []

    asyncio.run(run())


def test_a_form_with_repeated_or_listed_modes() -> None:
    async def run() -> None:
        async with running(ScriptedModes()) as server:
            for modes in (["ar", "diffusion"], "ar,diffusion"):
                form = {**ASK, "modes": modes, "parallel": "true", "mode_options": "{}"}
                reply = await server.http.post(PATH, data=form, files={"image": png()})
                assert reply.status_code == 200, reply.text
                assert [one["mode"] for one in reply.json()["results"]] == ["ar", "diffusion"]

    asyncio.run(run())


def test_the_same_idempotency_key_gives_the_same_reply() -> None:
    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            for is_stream in (False, True):
                headers = {"Idempotency-Key": f"k{is_stream}"}
                form = {**ASK, "stream": str(is_stream).lower()}
                replies = [
                    await server.http.post(PATH, data=form, files={"image": png()}, headers=headers)
                    for _ in range(2)
                ]
                assert replies[0].status_code == 200
                assert replies[0].text == replies[1].text
        assert len(engine.requests) == 8

    asyncio.run(run())


def test_image_and_prompt_are_computed_once_by_the_real_engine() -> None:
    async def run() -> None:
        engine = LocalEngine(Launch())
        async with running(engine) as server:
            body = {**ASK, "images": [data_uri(png(224, 168))], "options": {"max_tokens": 8}}
            reply = await server.answer(PATH, body)
            again = await server.answer(PATH, body)
        cached = [
            one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in reply["results"]
        ]
        num_prompt = reply["summary"]["prompt_tokens"]
        assert cached == [0, *[num_prompt] * 3]
        vision = [one["metrics"]["vision_time_ms"] for one in reply["results"]]
        assert (vision[0] > 0, vision[1:]) == (True, [0.0] * 3)
        assert reply["summary"]["vision_ms"] == vision[0]
        assert reply["summary"]["prefill_ms"] == reply["results"][0]["metrics"]["prefill_time_ms"]
        by_mode = {one["mode"]: one for one in reply["results"]}
        for mode in ("linear_spec", "quadratic_spec"):
            assert by_mode[mode]["agreement"]["is_identical"] is True
        assert again["summary"]["is_prompt_cached"] is True
        assert again["summary"]["vision_ms"] == 0

    asyncio.run(run())
