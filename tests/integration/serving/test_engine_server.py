"""The engine process's own loop, run in this process over a socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.errors import EngineError, VlmDlmError
from vlm_dlm.events import Failed, Finished, GenerationEvent, Started
from vlm_dlm.request import GenerationRequest, PromptInput
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process import main as engine_process
from vlm_dlm.serving.process.frame_socket import FrameSocket
from vlm_dlm.serving.process.main import EngineServer
from vlm_dlm.serving.process.wire import Frame, Parts, decode_item, encode, encode_request

REQUEST = GenerationRequest("r", PromptInput((1, 2, 3)))


class Peer:
    """The other side of the socket."""

    def __init__(self, link: FrameSocket, server: EngineServer) -> None:
        self.link = link
        self.server = server
        self._frames: list[Frame] = []

    @property
    def engine(self) -> ScriptedEngine:
        loaded = self.server._loaded
        assert loaded is not None
        assert isinstance(loaded.engine, ScriptedEngine)
        return loaded.engine

    async def next(self) -> Frame:
        while not self._frames:
            frames = await self.link.receive()
            assert frames is not None
            self._frames += frames
        return self._frames.pop(0)

    async def item(self) -> GenerationEvent | VlmDlmError:
        return decode_item(await self.next())

    async def load(self, script: Script) -> list[str]:
        launch = Launch(engine="scripted", script=script)
        self.link.send(encode({"kind": "launch", "launch": launch.to_dict()}))
        self.link.send(encode({"kind": "load"}))
        phases: list[str] = []
        while "ready" not in phases:
            phases.append((await self.next()).header["phase"])
        return phases


@asynccontextmanager
async def serving() -> AsyncIterator[Peer]:
    ours, theirs = socket.socketpair()
    link, other = FrameSocket(ours), FrameSocket(theirs)
    server = EngineServer(other)
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(60.0):
            yield Peer(link, server)
    finally:
        await link.close()
        await asyncio.wait({task})
        await other.close()
        if not task.cancelled():
            task.exception()


async def until(peer: Peer, num_running: int) -> None:
    while peer.engine.num_running != num_running:
        await asyncio.sleep(0.005)


def test_it_answers_before_it_is_loaded_and_refuses_requests() -> None:
    async def run() -> None:
        async with serving() as peer:
            peer.link.send(encode({"kind": "ping"}))
            assert (await peer.next()).kind == "pong"
            peer.link.send(encode_request(1, REQUEST))
            assert isinstance(error := await peer.item(), EngineError)
            assert "not ready" in str(error)
            assert (await peer.load(Script()))[-1] == "ready"

    asyncio.run(run())


def test_an_abort_ends_the_work_and_says_no_more() -> None:
    async def run() -> None:
        async with serving() as peer:
            await peer.load(Script(step_s=600.0))
            peer.link.send(encode_request(1, REQUEST))
            assert isinstance(await peer.item(), Started)
            peer.link.send(encode({"kind": "abort", "stream": 1}))
            await until(peer, 0)
            assert peer.engine.num_aborted == 1
            peer.link.send(encode({"kind": "abort", "stream": 1}))  # ended meanwhile
            peer.link.send(encode({"kind": "abort", "stream": 99}))
            peer.link.send(encode({"kind": "ping"}))
            assert (await peer.next()).kind == "pong"

    asyncio.run(run())


def test_a_refused_request_harms_no_other() -> None:
    async def run() -> None:
        async with serving() as peer:
            await peer.load(Script(step_s=0.01))
            peer.link.send(encode_request(1, REQUEST))
            peer.link.send(encode({"kind": "submit", "stream": 2, "request": {"mode": "ar"}}))
            items: dict[int, list[GenerationEvent | VlmDlmError]] = {1: [], 2: []}
            while not any(isinstance(item, Finished) for item in items[1]):
                frame = await peer.next()
                items[frame.stream].append(decode_item(frame))
            (refusal,) = items[2]
            assert isinstance(refusal, EngineError)
            assert isinstance(items[1][0], Started)

    asyncio.run(run())


@pytest.mark.parametrize(
    "parts",
    [encode({"kind": "dance"}), encode({}), encode({"kind": "abort"}), [b"\xff" * 64]],
    ids=["unknown", "no kind", "no stream", "no frame"],
)
def test_what_it_does_not_understand_ends_it(parts: Parts) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        link, other = FrameSocket(ours), FrameSocket(theirs)
        link.send(parts)
        with pytest.raises(EngineError):
            await EngineServer(other).run()
        await link.close()
        await other.close()

    asyncio.run(run())


def test_closing_ends_every_stream_first(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(engine_process, "_exit", codes.append)

    async def run() -> None:
        async with serving() as peer:
            await peer.load(Script(step_s=0.05))
            peer.link.send(encode_request(1, REQUEST))
            assert isinstance(await peer.item(), Started)
            peer.link.send(encode({"kind": "close"}))
            while not isinstance(item := await peer.item(), Failed):
                assert not isinstance(item, Finished)
            while not codes:
                await asyncio.sleep(0.005)

    asyncio.run(run())
    assert codes == [0]
