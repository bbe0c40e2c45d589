"""Engine processes that break by themselves: replaced, or given up with a reason."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from tests.integration.serving.odd_child import ODD
from tests.integration.serving.process_harness import (
    QUICK,
    SLOW,
    STUCK,
    collect,
    is_alive,
    num_ends,
    ready,
    request,
    settle,
    until,
)
from vlm_dlm.errors import CheckpointError, UnavailableError
from vlm_dlm.events import Failed, Finished
from vlm_dlm.serving import engine_child
from vlm_dlm.serving.engine_link import Silence
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process_engine import ProcessEngine, RestartLimit


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(engine_child, "MODULE", "tests.integration.serving.odd_child")
    return monkeypatch


@pytest.mark.parametrize(
    ("misdeed", "cause"),
    [
        ("garbage", "cannot be read"),
        ("exception", "a bug in the engine process"),
        ("segfault", "SIGSEGV"),
    ],
)
def test_a_broken_engine_process_is_replaced_and_its_cause_logged(
    odd: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, misdeed: str, cause: str
) -> None:
    async def run() -> None:
        odd.setenv(ODD, misdeed)
        async with ready(QUICK) as engine:
            odd.setenv(ODD, "")
            events = await collect(engine, request())
            assert [type(event) for event in events] == [Failed]
            await settle(engine)
            assert isinstance((await collect(engine, request()))[-1], Finished)
            assert engine.state.num_restarts == 1
            assert cause not in engine.state.reason

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert cause in caplog.text


def test_a_busy_engine_process_is_not_given_up(odd: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        odd.setenv(ODD, "busy")
        async with ready(QUICK, silence=Silence(0.3, 10, 400)) as engine:
            assert engine.state.num_restarts == 0

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began > 4.0


def test_a_crash_loop_ends_and_says_why(odd: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        odd.setenv(ODD, "no start")
        engine = ProcessEngine(QUICK, limit=RestartLimit(3, 600.0))
        num_lost = 0

        def note() -> None:
            nonlocal num_lost
            num_lost += 1

        engine.on_lost(note)
        await engine.start()
        with pytest.raises(UnavailableError, match="stopped 3 times within 600 s") as refusal:
            await settle(engine)
        assert (engine.state.phase, engine.state.num_restarts) == (Phase.DOWN, 2)
        assert engine.state.reason.endswith("the last time: exit code 1")
        assert refusal.value.retry_after_s == 60
        assert num_lost >= 3
        assert engine.pid is None
        with pytest.raises(UnavailableError, match="stopped 3 times"):
            await collect(engine, request())
        await engine.close()

    asyncio.run(run())


def test_losses_far_apart_are_not_a_loop(odd: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        odd.setenv(ODD, "no start")
        engine = ProcessEngine(QUICK, limit=RestartLimit(2, 0.0))
        await engine.start()
        await until(lambda: engine.state.num_restarts >= 2)
        await engine.close()
        assert engine.state.phase is Phase.CLOSED

    asyncio.run(run())


def test_a_checkpoint_that_cannot_be_loaded_is_not_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        with pytest.raises(CheckpointError):
            ProcessEngine(Launch(str(tmp_path)))
        capabilities = ProcessEngine(QUICK).capabilities
        launch = Launch(str(tmp_path), "cpu")
        engine = ProcessEngine(launch, capabilities, has_spare=False)
        await engine.start()
        with pytest.raises(UnavailableError, match="cannot be loaded; the server's log") as refusal:
            await settle(engine)
        assert str(tmp_path) not in str(refusal.value)
        assert engine.state.num_restarts == 0
        await engine.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert str(tmp_path) in caplog.text


def test_closing_gives_running_streams_their_last_event(odd: pytest.MonkeyPatch) -> None:
    async def run(launch: Launch, close_s: float) -> str:
        async with ready(launch, close_s=close_s) as engine:
            task = asyncio.create_task(collect(engine, request()))
            await until(lambda: engine.num_streams == 1)
            await asyncio.sleep(0.1)
            pid = engine.pid
            await engine.close()
            events = await task
            assert pid is not None
            assert not is_alive(pid)
            assert num_ends(events) == 1
            last = events[-1]
            assert isinstance(last, Failed)
            return last.message

    assert asyncio.run(run(SLOW, 60.0)) == "the engine is shutting down"
    odd.setenv(ODD, "deaf")
    assert asyncio.run(run(STUCK, 0.2)) == "the engine stopped while this request was running"
