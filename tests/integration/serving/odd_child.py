"""Engine processes that misbehave, as `TEST_ODD_ENGINE` says. Not a test."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from vlm_dlm.engine.base import Progress
from vlm_dlm.engine.scripted_engine import ScriptedEngine
from vlm_dlm.errors import CheckpointError
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process import main as engine_process
from vlm_dlm.serving.process.main import EngineServer
from vlm_dlm.serving.process.wire import Frame

ODD = "TEST_ODD_ENGINE"


def write_garbage(self: EngineServer, frame: Frame) -> None:
    self._link.send([b"\xff" * 64])


def raise_something(self: EngineServer, frame: Frame) -> None:
    raise RuntimeError("a bug in the engine process")


def segfault(self: EngineServer, frame: Frame) -> None:
    import ctypes

    ctypes.string_at(0)


def ignore(self: EngineServer, frame: Frame) -> None:
    """Hear nothing."""


def break_soon(self: ScriptedEngine, callback: Callable[[], object]) -> None:
    """As an engine does whose thread has ended."""
    threading.Timer(0.3, callback).start()


def compute(launch: Launch) -> None:
    """Keep the interpreter busy, as an import or a long forward does."""
    until_s = time.monotonic() + 4.0
    while time.monotonic() < until_s:
        pass


def refuse(launch: Launch) -> None:
    raise CheckpointError("the weights are gone")


def main() -> None:
    odd = os.environ.get(ODD, "")
    if odd == "no start":
        sys.exit("cannot start")
    if odd == "garbage":
        EngineServer._on_submit = write_garbage
    if odd == "exception":
        EngineServer._on_submit = raise_something
    if odd == "segfault":
        EngineServer._on_submit = segfault
    if odd == "deaf":
        EngineServer._on_close = ignore
    if odd == "broken":
        ScriptedEngine.on_broken = break_soon
    if odd == "busy":
        engine_process.prepare = compute
    if odd == "stuck step":
        stuck = property(lambda self: Progress(7, True, 0.001))
        setattr(ScriptedEngine, "progress", stuck)  # noqa: B010 - a property has no setter
    if odd == "unusable":
        engine_process.prepare = refuse
    engine_process.main()


if __name__ == "__main__":
    main()
