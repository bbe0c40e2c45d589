"""Engine processes that break by themselves: replaced, or given up with a reason."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
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
    kill,
    num_ends,
    ready,
    request,
    settle,
    until,
)
from vlm_dlm.errors import CheckpointError, UnavailableError
from vlm_dlm.events import Failed, Finished
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.managed import RestartLimit
from vlm_dlm.serving.process import child as engine_child
from vlm_dlm.serving.process import engine as process_engine
from vlm_dlm.serving.process.engine import ProcessEngine
from vlm_dlm.serving.process.link import EngineLink, Heartbeat
from vlm_dlm.serving.process.wire import Frame


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


def test_a_process_whose_engine_breaks_is_replaced(
    odd: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        odd.setenv(ODD, "broken")
        async with ready(STUCK) as engine:
            odd.setenv(ODD, "")
            task = asyncio.create_task(collect(engine, request()))
            await until(lambda: engine.state.num_restarts == 1)
            assert num_ends(await task) == 1
            await settle(engine)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "the engine is broken; its process ends" in caplog.text


def test_no_stream_opens_on_a_link_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the link failed, and while its process is still being put away."""
    links: list[EngineLink] = []
    take = EngineLink._take

    def fail(self: EngineLink, frame: Frame) -> None:
        if links:
            take(self, frame)
        elif frame.kind == "event":
            links.append(self)
            raise RuntimeError("a bug in the link")
        else:
            take(self, frame)

    async def reap(self: engine_child.EngineChild) -> str:
        await asyncio.sleep(0.2)
        self.kill()
        return await wait(self)

    wait = engine_child.EngineChild.reap
    monkeypatch.setattr(EngineLink, "_take", fail)
    monkeypatch.setattr(engine_child.EngineChild, "reap", reap)

    async def run() -> None:
        async with asyncio.timeout(60.0), ready(SLOW) as engine:
            losses: list[Phase] = []
            engine.on_lost(lambda: losses.append(engine.state.phase))
            assert isinstance((await collect(engine, request()))[-1], Failed)
            assert losses == [Phase.LOADING]
            with pytest.raises(UnavailableError):
                await collect(engine, request())
            stream = links[0].open(request())
            assert isinstance(stream.items.get_nowait(), Failed)

    asyncio.run(run())


def test_a_server_without_threads_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    num_failed, start = 0, threading.Thread.start
    monkeypatch.setattr(process_engine, "RETRY_S", 0.01)

    def refuse(self: threading.Thread) -> None:
        nonlocal num_failed
        if self.name == "engine-log" and num_failed < 2:
            num_failed += 1
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def run() -> None:
        num_open = len(os.listdir("/proc/self/fd"))
        async with ready(QUICK) as engine:
            assert engine.state.num_restarts == 2
            assert isinstance((await collect(engine, request()))[-1], Finished)
        await until(lambda: len(os.listdir("/proc/self/fd")) <= num_open)

    asyncio.run(run())


def test_the_engine_process_gets_no_settings(odd: pytest.MonkeyPatch) -> None:
    odd.setenv("VLM_DLM_API_KEYS", "secret")

    async def run() -> None:
        async with ready(QUICK) as engine:
            environment = Path(f"/proc/{engine.pid}/environ").read_bytes()
            assert b"PATH=" in environment
            assert b"VLM_DLM" not in environment

    asyncio.run(run())


def test_a_busy_engine_process_is_not_given_up(odd: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        odd.setenv(ODD, "busy")
        async with ready(QUICK, heartbeat=Heartbeat(0.3, 10, 400)) as engine:
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
        assert isinstance(engine.refusal, CheckpointError)
        assert str(tmp_path) in str(engine.refusal)
        await engine.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert caplog.text.count(str(tmp_path)) == 1


def test_a_checkpoint_that_is_lost_while_serving_is_no_refusal(odd: pytest.MonkeyPatch) -> None:
    """It ran once: whoever started the server asked for nothing impossible."""

    async def run() -> None:
        async with ready(QUICK) as engine:
            odd.setenv(ODD, "unusable")
            kill(engine)
            await until(lambda: engine.state.phase is Phase.DOWN)
            assert engine.state.reason.startswith("the engine cannot be loaded")
            assert engine.refusal is None

    asyncio.run(run())


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
