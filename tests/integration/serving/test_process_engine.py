"""An engine process that is killed, stopped or deserted. Nobody is left without an answer."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
import weakref
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.integration.serving.odd_child import ODD
from tests.integration.serving.process_harness import (
    QUICK,
    SLOW,
    collect,
    is_alive,
    kill,
    num_ends,
    open_stream,
    ready,
    request,
    settle,
    until,
)
from vlm_dlm.errors import UnavailableError
from vlm_dlm.events import Committed, Failed, Finished, Started
from vlm_dlm.request import ImageInput, PromptInput
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.process import child as engine_child
from vlm_dlm.serving.process.engine import ProcessEngine
from vlm_dlm.serving.process.link import Heartbeat
from vlm_dlm.serving.queue.service import Service, Ticket

ROOT = Path(__file__).parents[3]


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


def test_the_server_holds_no_pixels_once_they_are_sent() -> None:
    """More of them than a socket takes at once."""

    async def run() -> None:
        async with ready(SLOW) as engine:
            service = Service(engine)
            pixels = np.zeros((3, 1400, 1400), np.float32)
            gone = weakref.ref(pixels)
            prompt = PromptInput((1, 2, 3), (ImageInput(pixels, "hash", 1),))
            ticket = Ticket(replace(request(), prompt=prompt))
            del pixels, prompt
            stream = service.generate(ticket)
            async with aclosing(stream):
                await anext(stream)
                await until(lambda: gone() is None)
                assert service.num_running == 1
                assert ticket.request.prompt.num_image_tokens == 1

    asyncio.run(run())


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


def test_a_dead_spare_is_replaced_before_it_is_needed() -> None:
    async def run() -> None:
        async with ready(QUICK, has_spare=True, heartbeat=Heartbeat(0.1, 600)) as engine:
            await until(lambda: engine.spare_pid is not None)
            spare = engine.spare_pid
            assert spare is not None
            os.kill(spare, signal.SIGKILL)
            await until(lambda: engine.spare_pid not in (None, spare))
            assert engine.spare_pid is not None
            assert is_alive(engine.spare_pid)
            assert engine.state.num_restarts == 0

    asyncio.run(run())


def test_an_engine_that_does_not_answer_is_not_ready_and_may_come_back() -> None:
    async def run() -> None:
        heartbeat = Heartbeat(0.1, 3000, 3000, num_quiet_pings=5)
        async with ready(QUICK, heartbeat=heartbeat) as engine:
            service = Service(engine)
            kill(engine, signal.SIGSTOP)
            await until(lambda: engine.state.phase is Phase.STALLED)
            assert not service.is_ready
            with pytest.raises(UnavailableError, match="does not get on; try again soon"):
                await collect(engine, request())
            kill(engine, signal.SIGCONT)
            await settle(engine)
            assert (engine.state.num_restarts, engine.state.reason) == (0, "")
            assert isinstance((await collect(engine, request(max_tokens=2)))[-1], Finished)

    asyncio.run(run())


def test_a_step_without_end_is_ended_and_its_requests_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_child, "MODULE", "tests.integration.serving.odd_child")
    monkeypatch.setenv(ODD, "stuck step")
    phases: set[Phase] = set()
    stalled_s: list[float] = []

    async def run() -> None:
        heartbeat = Heartbeat(0.1, 3000, 3000, num_step_pings=40)
        async with ready(SLOW, heartbeat=heartbeat) as engine:
            task = asyncio.create_task(collect(engine, request()))
            while not task.done():
                phases.add(engine.state.phase)
                if engine.state.phase is Phase.STALLED:
                    stalled_s.append(time.monotonic())
                await asyncio.sleep(0.01)
            assert isinstance(task.result()[-1], Failed)
            assert num_ends(task.result()) == 1
            await until(lambda: engine.state.num_restarts == 1)

    asyncio.run(run())
    assert Phase.STALLED in phases
    # long before it is given up: 35 of 40 answers, a tenth of a second apart
    assert stalled_s[-1] - stalled_s[0] > 2.5


def test_a_slow_machine_gets_more_time_for_a_step() -> None:
    assert Heartbeat().step_pings(0.01) * Heartbeat().ping_s == 60
    assert Heartbeat().step_pings(30.0) * Heartbeat().ping_s == 600
    assert Heartbeat().stall_pings(0.01) * Heartbeat().ping_s == 5
    assert Heartbeat().stall_pings(30.0) * Heartbeat().ping_s == 90


def test_a_stopped_engine_process_is_given_up() -> None:
    async def run() -> None:
        async with ready(SLOW, heartbeat=Heartbeat(0.25, 8, 400)) as engine:
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


FRONT = """
import asyncio, sys
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process.engine import ProcessEngine

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
