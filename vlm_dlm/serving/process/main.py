"""The process that runs the engine: `python -m vlm_dlm.serving.process.main`.

It is told everything over one socket, inherited from the process that serves HTTP, and ends when
that socket does. Its event loop only passes messages, so it answers while the engine computes.
Frames in: launch, load, ping, submit, abort, close. Frames out: state, pong, event, error, fatal.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from time import monotonic
from typing import Any

from vlm_dlm.engine.base import ENGINE_FAILED
from vlm_dlm.errors import EngineError, VlmDlmError
from vlm_dlm.events import Canvas
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.loading import Loaded, load_engine, prepare, to_tensor, warm_up
from vlm_dlm.serving.process import event_loop
from vlm_dlm.serving.process.frame_socket import FrameSocket
from vlm_dlm.serving.process.wire import (
    Frame,
    ToPixels,
    decode_request,
    encode,
    encode_error,
    encode_event,
    error_fields,
)

logger = logging.getLogger(__name__)
PROGRESS_S = 0.1  # between two progress frames
MAX_PENDING_BYTES = 2**22  # unsent, above which canvases are dropped
LAST_WORDS_S = 1.0  # for the last events of a broken engine
PR_SET_PDEATHSIG = 1


class EngineServer:
    """One launch, served over one socket."""

    def __init__(self, link: FrameSocket) -> None:
        self._link = link
        self._launch = Launch()
        self._to_pixels: ToPixels = lambda plane: plane
        self._loaded: Loaded | None = None
        self._streams: dict[int, asyncio.Task[None]] = {}
        self._prepared: asyncio.Future[Checkpoint | None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._handlers: dict[str, Callable[[Frame], None]] = {
            "launch": self._on_launch,
            "load": self._on_load,
            "ping": self._on_ping,
            "submit": self._on_submit,
            "abort": self._on_abort,
            "close": self._on_close,
        }

    async def run(self) -> None:
        """Serve until the other side leaves. Raises EngineError for a message that is none."""
        while (frames := await self._link.receive()) is not None:
            while frames:
                self._handle(frames.pop(0))  # no pixels are kept until the next frame comes

    def _handle(self, frame: Frame) -> None:
        handle = self._handlers.get(frame.kind)
        if handle is None:
            raise EngineError(f"a message of the unknown kind {frame.kind[:40]!r}")
        handle(frame)

    def _on_launch(self, frame: Frame) -> None:
        """What will be loaded. Imports begin now, weights wait for `load`."""
        self._launch = Launch.from_dict(frame.header["launch"])
        if self._launch.engine == "torch":
            self._to_pixels = to_tensor
        loop = asyncio.get_running_loop()
        self._prepared = loop.run_in_executor(None, prepare, self._launch)

    def _on_load(self, frame: Frame) -> None:
        self._loading = asyncio.create_task(self._load())

    def _on_ping(self, frame: Frame) -> None:
        progress = None if self._loaded is None else self._loaded.engine.progress
        self._link.send(encode({"kind": "pong", **({} if progress is None else asdict(progress))}))

    def _on_submit(self, frame: Frame) -> None:
        stream = frame.stream
        try:
            request = decode_request(frame, self._to_pixels)
            if self._loaded is None:
                raise EngineError("the engine is not ready")
        except VlmDlmError as error:
            self._link.send(encode_error(stream, error))
            return
        task = asyncio.create_task(self._serve(stream, self._loaded, request))
        self._streams[stream] = task
        task.add_done_callback(lambda _: self._streams.pop(stream, None))

    def _on_abort(self, frame: Frame) -> None:
        """The request may have ended already."""
        if (task := self._streams.get(frame.stream)) is not None:
            task.cancel()

    def _on_close(self, frame: Frame) -> None:
        self._closing = asyncio.create_task(self._close())

    async def _load(self) -> None:
        assert self._prepared is not None, "`launch` comes before `load`"
        try:
            checkpoint = await self._prepared
            progress = self._progress(Phase.LOADING)
            loaded = await asyncio.to_thread(load_engine, self._launch, checkpoint, progress)
            await warm_up(loaded, self._progress(Phase.WARMING))
        except EngineError as error:  # memory, say, which may be there the next time
            logger.error("the engine cannot start: %s", error)
            await self._leave(os.EX_SOFTWARE)
        except VlmDlmError as error:  # starting again would not help; who started us logs it
            self._link.send(encode({"kind": "fatal", **error_fields(error)}))
            await self._leave(os.EX_CONFIG)
        except Exception:
            logger.exception("the engine cannot start")
            await self._leave(os.EX_SOFTWARE)
        else:
            self._loaded = loaded
            loop = asyncio.get_running_loop()
            loaded.engine.on_broken(partial(loop.call_soon_threadsafe, self._on_broken))
            self._send_state(Phase.READY, 1.0, device=loaded.device, dtype=loaded.dtype)

    async def _serve(self, stream: int, loaded: Loaded, request: GenerationRequest) -> None:
        events = loaded.engine.generate(request)
        del request  # and its pixels, which the engine needs only at first
        try:
            async with aclosing(events):
                async for event in events:
                    is_jammed = self._link.num_pending_bytes > MAX_PENDING_BYTES
                    if not (is_jammed and isinstance(event, Canvas)):
                        self._link.send(encode_event(stream, event))
        except VlmDlmError as error:
            self._link.send(encode_error(stream, error))
        except Exception:
            logger.exception("a request failed outside the engine")
            self._link.send(encode_error(stream, EngineError(ENGINE_FAILED)))

    async def _close(self) -> None:
        """Every open stream gets its last event; then this process ends."""
        if self._loaded is not None:
            await self._loaded.engine.close()
            if self._streams:
                await asyncio.wait(self._streams.values())
        await self._leave(os.EX_OK)

    def _on_broken(self) -> None:
        """A new process may do better."""
        self._closing = asyncio.create_task(self._end_broken())

    async def _end_broken(self) -> None:
        logger.error("the engine is broken; its process ends")
        if self._streams:
            await asyncio.wait(self._streams.values(), timeout=LAST_WORDS_S)
        await self._leave(os.EX_SOFTWARE)

    async def _leave(self, code: int) -> None:
        """End now. Threads may be deep in a computation, so nothing waits for them."""
        await self._link.flush()
        _exit(code)

    def _progress(self, phase: Phase) -> Callable[[float], None]:
        """A callback for any thread; keeps the number of frames small."""
        loop, last_s = asyncio.get_running_loop(), 0.0

        def tell(progress: float) -> None:
            nonlocal last_s
            if (now_s := monotonic()) - last_s >= PROGRESS_S:
                last_s = now_s
                loop.call_soon_threadsafe(self._send_state, phase, progress)

        return tell

    def _send_state(self, phase: Phase, progress: float, **more: Any) -> None:
        header = {"kind": "state", "phase": phase.value, "progress": progress, **more}
        self._link.send(encode(header))


def main() -> None:
    """Arguments: number of the inherited socket, process id of who inherits it to us."""
    descriptor, parent = (int(text) for text in sys.argv[1:3])
    _tie_to_parent(parent)
    # Both may be sent to a whole group; the front decides when the engine ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    event_loop.run(_serve_until_left(socket.socket(fileno=descriptor)))


async def _serve_until_left(sock: socket.socket) -> None:
    """Never returns: leaving the event loop would wait for threads."""
    try:
        await EngineServer(FrameSocket(sock)).run()
    except BaseException:
        logger.exception("the engine process failed")
        _exit(os.EX_SOFTWARE)
    _exit(os.EX_OK)


def _tie_to_parent(parent: int) -> None:
    """On Linux: die with the parent even in the middle of a long computation."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            _exit(os.EX_OK)


def _exit(code: int) -> None:
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    main()
