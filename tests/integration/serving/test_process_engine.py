"""An engine process that is killed, stopped, broken or deserted. Nobody is left without an answer.

Waits are long because a loaded machine starts processes slowly; none is slept out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tests.integration.serving.odd_child import ODD
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.errors import CheckpointError, UnavailableError
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent, Started
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving import engine_child
from vlm_dlm.serving.engine_link import Silence
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process_engine import ProcessEngine, RestartLimit

ROOT = Path(__file__).parents[3]
START_S = 120.0
SLOW = Launch(engine="scripted", script=Script(words=("word ",) * 2000, step_s=0.02))
STUCK = Launch(engine="scripted", script=Script(step_s=600.0))
QUICK = Launch(engine="scripted")


def request(name: str = "r", max_tokens: int = 2000) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=max_tokens)
    return GenerationRequest(name, PromptInput((1, 2, 3)), sampling=sampling)


async def collect(engine: ProcessEngine, wanted: GenerationRequest) -> list[GenerationEvent]:
    return [event async for event in engine.generate(wanted)]


def open_stream(
    engine: ProcessEngine, wanted: GenerationRequest
) -> AsyncGenerator[GenerationEvent, None]:
    return cast(AsyncGenerator[GenerationEvent, None], engine.generate(wanted))


@asynccontextmanager
async def ready(launch: Launch, **options: Any) -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine(launch, **options)
    await engine.start()
    try:
        await settle(engine)
        yield engine
    finally:
        await engine.close()


async def settle(engine: ProcessEngine) -> None:
    async with asyncio.timeout(START_S):
        await engine.wait_ready()


async def until(holds: Any) -> None:
    async with asyncio.timeout(START_S):
        while not holds():
            await asyncio.sleep(0.01)


def kill(engine: ProcessEngine, number: int = signal.SIGKILL) -> int:
    assert engine.pid is not None
    os.kill(engine.pid, number)
    return engine.pid


def is_alive(pid: int) -> bool:
    """Zombies, which nobody has to reap here, count as gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def num_ends(events: list[GenerationEvent]) -> int:
    return sum(isinstance(event, Failed | Finished) for event in events)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(engine_child, "MODULE", "tests.integration.serving.odd_child")
    return monkeypatch


def test_a_life_without_trouble() -> None:
    """Order of events, streams side by side, abort, signals meant for the front, a clean end."""

    async def run() -> None:
        engine = ProcessEngine(SLOW)
        with pytest.raises(UnavailableError, match="loaded"):
            await collect(engine, request())
        await engine.start()
        assert engine.state.phase is Phase.LOADING
        await settle(engine)
        pid = kill(engine, signal.SIGINT)
        kill(engine, signal.SIGTERM)
        several = await asyncio.gather(*(collect(engine, request(f"{i}", i + 2)) for i in range(4)))
        for number, events in enumerate(several):
            assert [type(e) for e in events] == [Started, *(Committed,) * (number + 2), Finished]
            assert {event.request_id for event in events} == {f"{number}"}
        stream = open_stream(engine, request("left"))
        async with aclosing(stream):
            await anext(stream)
            assert engine.num_streams == 1
        assert engine.num_streams == 0
        assert (engine.pid, engine.state.num_restarts) == (pid, 0)
        await engine.close()
        await engine.close()
        assert not is_alive(pid)
        with pytest.raises(UnavailableError, match="shutting down"):
            await collect(engine, request())
        with pytest.raises(UnavailableError):
            await engine.wait_ready()

    asyncio.run(run())


def test_kill_answers_every_stream_once_and_the_engine_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        async with ready(SLOW, has_spare=True) as engine:
            losses: list[Phase] = []
            engine.on_lost(lambda: losses.append(engine.state.phase))
            await until(lambda: engine.spare_pid is not None)
            spare = engine.spare_pid
            tasks = [asyncio.create_task(collect(engine, request(f"{i}"))) for i in range(8)]
            await until(lambda: engine.num_streams == 8)
            await asyncio.sleep(0.2)
            began = time.monotonic()
            first = kill(engine)
            for number, events in enumerate(await asyncio.gather(*tasks)):
                last = events[-1]
                assert isinstance(last, Failed)
                assert (last.request_id, last.code) == (f"{number}", "engine_error")
                assert last.message == "the engine stopped while this request was running"
                assert num_ends(events) == 1
            assert time.monotonic() - began < 5.0
            assert losses == [Phase.LOADING]
            with pytest.raises(UnavailableError):
                await collect(engine, request())
            await settle(engine)
            assert engine.pid == spare != first
            assert engine.state.num_restarts == 1
            assert isinstance((await collect(engine, request(max_tokens=2)))[-1], Finished)
            await until(lambda: engine.spare_pid not in (None, spare))
            pids = [engine.pid, engine.spare_pid]
        assert not any(pid is not None and is_alive(pid) for pid in pids)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "SIGKILL" in caplog.text


def test_a_dead_spare_is_not_used() -> None:
    async def run() -> None:
        async with ready(QUICK, has_spare=True) as engine:
            await until(lambda: engine.spare_pid is not None)
            spare = engine.spare_pid
            assert spare is not None
            os.kill(spare, signal.SIGKILL)
            kill(engine)
            await until(lambda: engine.state.num_restarts == 1)
            await settle(engine)
            assert engine.pid != spare

    asyncio.run(run())


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


def test_a_stopped_engine_process_is_given_up() -> None:
    async def run() -> None:
        async with ready(SLOW, silence=Silence(0.25, 8, 400)) as engine:
            task = asyncio.create_task(collect(engine, request()))
            await until(lambda: engine.num_streams == 1)
            pid = kill(engine, signal.SIGSTOP)
            async with asyncio.timeout(30.0):
                events = await task
            assert isinstance(events[-1], Failed)
            await settle(engine)
            assert engine.state.num_restarts == 1
            assert not is_alive(pid)

    asyncio.run(run())


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


FRONT = """
import asyncio, sys
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process_engine import ProcessEngine

async def main():
    engine = ProcessEngine(Launch(engine="scripted"), has_spare=True)
    await engine.start()
    await engine.wait_ready()
    print(engine.pid, engine.spare_pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_no_process_outlives_a_killed_front() -> None:
    front = subprocess.Popen([sys.executable, "-c", FRONT], stdout=subprocess.PIPE, cwd=ROOT)
    with front:
        assert front.stdout is not None
        pids = [int(text) for text in front.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        front.kill()
    until_s = time.monotonic() + 30.0
    while any(is_alive(pid) for pid in pids) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not any(is_alive(pid) for pid in pids)
