"""One decoding child seen from the process that uses it. Blocking; for worker threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

import vlm_dlm
from vlm_dlm.errors import ImageError, UnavailableError
from vlm_dlm.serving.decode_child import READY, REPLY, REQUEST, Outcome, Reply, Request
from vlm_dlm.serving.image_header import DAMAGED

START_S = 30.0
UNAVAILABLE = "images cannot be decoded at the moment"


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What one image may cost its child: seconds by the clock, processor seconds, and the whole
    address space in bytes."""

    wall_s: float = 5.0
    cpu_s: int = 10
    memory_bytes: int = 2**30


class DecodeWorker:
    """Owns one child for its whole life; a dead worker is replaced, never revived.

    `decode` runs in one thread at a time; `kill` may come from any other.
    """

    def __init__(self, limits: ChildLimits) -> None:
        self.limits = limits
        self.is_dead = False
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._is_late = False
        self._start_lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """None before the child is started."""
        return None if self._process is None else self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it was killed, or its child is gone."""
        return self.is_dead or (self._process is not None and self._process.poll() is not None)

    def start(self) -> None:
        """Return once the child can take an image. Raises UnavailableError."""
        with self._start_lock:
            if self._is_ready or self.is_dead:
                return
            try:
                process = self._process = _spawn(self.limits)
                if self.is_dead:  # `kill` came before there was a process
                    process.kill()
                with self._time_limit(START_S):
                    self._is_ready = bytes(_read(process.stdout, len(READY))) == READY
            except (OSError, EOFError):
                self._is_ready = False
            if not self._is_ready:
                self.kill()
                raise UnavailableError(UNAVAILABLE)

    def decode(self, data: bytes, request: Request) -> Image.Image:
        """Mode RGB. Raises ImageError; UnavailableError if the worker is or gets killed."""
        self.start()
        process = self._process
        if self.is_dead or process is None:
            raise UnavailableError(UNAVAILABLE)
        try:
            with self._time_limit(self.limits.wall_s):
                _write(process.stdin, REQUEST.pack(*request))
                _write(process.stdin, data)
                return self._picture(process.stdout, request)
        except (OSError, EOFError):
            if self.is_dead and not self._is_late:
                raise UnavailableError(UNAVAILABLE) from None
            self.kill()
            raise ImageError(self._cause()) from None

    def kill(self) -> None:
        """End the child at once; whoever waits for it gets an error."""
        self.is_dead = True
        if self._process is not None:
            self._process.kill()

    def reap(self) -> None:
        """Free what a killed child leaves behind. Waits for its end."""
        process = self._process
        if process is None:
            return
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def _picture(self, stream: IO[bytes] | None, request: Request) -> Image.Image:
        reply = Reply(*REPLY.unpack(_read(stream, REPLY.size)))
        if reply.outcome == Outcome.OK:
            # never more than was promised and never nothing, whatever the child says
            if not 0 < reply.width * reply.height <= request.width * request.height:
                raise EOFError
            pixels = _read(stream, reply.width * reply.height * 3)
            return Image.frombytes("RGB", (reply.width, reply.height), pixels)
        raise ImageError(self._text(reply.outcome))

    def _text(self, outcome: int) -> str:
        if outcome == Outcome.TOO_LARGE:
            return f"the image needs more memory to decode than the limit of {self._memory}"
        if outcome == Outcome.CONTRADICTION:
            return "the image has another size than its header says"
        return DAMAGED

    def _cause(self) -> str:
        if self._is_late:
            return f"the image took too long to decode; the limit is {self.limits.wall_s:g} s"
        return (
            f"the image could not be decoded within {self.limits.cpu_s} processor seconds "
            f"and {self._memory}"
        )

    @property
    def _memory(self) -> str:
        return f"{self.limits.memory_bytes >> 20} MiB"

    @contextmanager
    def _time_limit(self, seconds: float) -> Generator[None]:
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._is_late = True
        self.kill()


def _spawn(limits: ChildLimits) -> subprocess.Popen[bytes]:
    """The child gets no secrets: of the environment only what the interpreter needs to start."""
    environment = {
        name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ
    }
    environment["PYTHONPATH"] = str(Path(vlm_dlm.__file__).parent.parent)
    environment["OPENBLAS_NUM_THREADS"] = "1"  # each thread would cost address space
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "vlm_dlm.serving.decode_child"),
            *(str(limits.memory_bytes), str(limits.cpu_s)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env=environment,
        start_new_session=True,  # an interrupt at the terminal is for the server alone
    )


def _write(stream: IO[bytes] | None, data: bytes) -> None:
    assert stream is not None
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _read(stream: IO[bytes] | None, num_bytes: int) -> bytearray:
    """Exactly `num_bytes`. Raises EOFError if the child ends before."""
    assert stream is not None
    data = bytearray(num_bytes)
    rest = memoryview(data)
    while rest:
        num_read: int = stream.readinto(rest)  # type: ignore[attr-defined]
        if not num_read:
            raise EOFError
        rest = rest[num_read:]
    return data
