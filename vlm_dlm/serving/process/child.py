"""One engine process seen from the process that serves HTTP: its socket, its output, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

import vlm_dlm
from vlm_dlm.environment import without_settings
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process.frame_socket import FrameSocket
from vlm_dlm.serving.process.wire import encode

logger = logging.getLogger(__name__)
NUM_KEPT_LINES = 20
MODULE = "vlm_dlm.serving.process.main"
REAP_S = 5.0
OUTPUT_S = 0.5  # for the last lines of a process that has ended


class EngineChild:
    """Owns one child for its whole life; a lost one is replaced, never revived.

    To be built in the thread that lives longest: on Linux the child dies with that thread. Raises
    OSError or RuntimeError where the system has no process or thread left.
    """

    def __init__(self, launch: Launch) -> None:
        self.last_lines: deque[str] = deque(maxlen=NUM_KEPT_LINES)
        ours, theirs = socket.socketpair()
        try:
            self._process = _spawn(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            self._output = self._start_reading()
            self.link = FrameSocket(ours)
        except BaseException:
            ours.close()
            self._discard()
            raise
        self.link.send(encode({"kind": "launch", "launch": launch.to_dict()}))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it and what it started, at once, also while it is stopped. Does not wait."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def reap(self) -> str:
        """Make sure it is gone, free what it held, and say how it ended."""
        await self.link.close()
        await asyncio.to_thread(self._wait)
        return _how_it_ended(self._process.returncode)

    def _discard(self) -> None:
        """End a process that nobody will use. It has hardly begun, so its end takes no time."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(REAP_S)

    def _start_reading(self) -> threading.Thread:
        """Raises RuntimeError if there is no thread left."""
        stream = self._process.stdout
        assert stream is not None
        reading = threading.Thread(
            target=self._read_output, args=(stream,), name="engine-log", daemon=True
        )
        try:
            reading.start()
        except RuntimeError:
            stream.close()
            raise
        return reading

    def _wait(self) -> None:
        """An end that is under way may still tell its own cause; one that is not is forced."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(OUTPUT_S)
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: leave it behind
            self._process.wait(REAP_S)
        self._output.join(OUTPUT_S)

    def _read_output(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip()
                self.last_lines.append(text)
                logger.info("engine: %s", text)


def _spawn(theirs: socket.socket) -> subprocess.Popen[bytes]:
    descriptor = theirs.fileno()
    root = str(Path(vlm_dlm.__file__).parent.parent)
    environment = without_settings()
    paths = (root, environment.get("PYTHONPATH", ""))
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", MODULE),
            *(str(descriptor), str(os.getpid())),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(descriptor,),
        env={**environment, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        start_new_session=True,  # signals at the terminal are for the server alone
    )


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "it does not end"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
