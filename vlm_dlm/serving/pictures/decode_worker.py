"""One decoding child seen from the process that uses it. Blocking; for worker threads."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from time import monotonic

from PIL import Image

from vlm_dlm.errors import ImageError, UnavailableError
from vlm_dlm.limited_child import start_child
from vlm_dlm.processor.tiff_colours import unsupported
from vlm_dlm.serving.pictures.decode_child import READY, REPLY, REQUEST, Outcome, Reply, Request
from vlm_dlm.serving.pictures.image_header import DAMAGED

CHILD = "vlm_dlm.serving.pictures.decode_child"
START_S = 30.0
# As far as the system allows: pixels then cross in few pieces.
BUFFER_BYTES = 2**21
END_S = 2.0  # for a child that has closed its end
# A child ends by none of these on account of a picture: its own limits give SIGXCPU or an error,
# its own faults SIGSEGV, SIGABRT and the like.
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
UNAVAILABLE = "images cannot be decoded at the moment"


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What one image may cost its child: seconds by the clock, processor seconds, and the whole
    address space in bytes.

    An image is judged by the processor alone. The clock's limit is far above: it runs out where the
    machine leaves the child too little of the processor.
    """

    wall_s: float = 15.0
    cpu_s: int = 5
    memory_bytes: int = 2**30


class DecoderStarvedError(UnavailableError):
    """The clock ran out before the child had used the processor time of one image."""


class DecoderKilledError(UnavailableError):
    """The child was ended from outside, by the system that ran out of memory, say. Another may
    decode the same picture."""


class DecodeWorker:
    """Owns one child for its whole life; a dead worker is replaced, never revived.

    `decode` runs in one thread at a time; `kill` may come from any other.
    """

    def __init__(self, limits: ChildLimits) -> None:
        self.limits = limits
        self.is_dead = False
        self._process: subprocess.Popen[bytes] | None = None
        self._link: _Link | None = None
        self._is_ready = False
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
                process, link = self._process, self._link = _spawn(self.limits)
                if self.is_dead:  # `kill` came before there was a process
                    process.kill()
                link.set_limit(START_S)
                self._is_ready = bytes(link.read(len(READY))) == READY
            except (OSError, EOFError):
                self._is_ready = False
            if not self._is_ready:
                self.kill()
                raise UnavailableError(UNAVAILABLE)

    def decode(self, data: bytes, request: Request) -> Image.Image:
        """Mode RGB. Raises ImageError; UnavailableError if the worker is or gets killed,
        DecoderKilledError if that came from outside, and DecoderStarvedError after the limit of
        time. After any other error the worker is dead."""
        self.start()
        link = self._link
        if self.is_dead or link is None:
            raise UnavailableError(UNAVAILABLE)
        try:
            link.set_limit(self.limits.wall_s)
            link.write(REQUEST.pack(*request) + data)
            return self._picture(link, request)
        except ImageError:  # a whole reply
            raise
        except (OSError, EOFError) as error:
            if self.is_dead:
                raise UnavailableError(UNAVAILABLE) from None
            is_late = isinstance(error, TimeoutError)
            is_from_outside = not is_late and self._was_killed()
            self.kill()
            if is_late:
                raise DecoderStarvedError(self._starved) from None
            if is_from_outside:
                raise DecoderKilledError(UNAVAILABLE) from None
            raise ImageError(self._cause) from None
        except BaseException:  # part of a reply may be unread: the next would begin there
            self.kill()
            raise

    def _was_killed(self) -> bool:
        """Whether the child, which has closed its end, was told to end by somebody else."""
        if self._process is None:
            return False
        try:
            return -self._process.wait(END_S) in FROM_OUTSIDE
        except subprocess.TimeoutExpired:
            return False

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
        if self._link is not None:
            self._link.close()

    def _picture(self, link: _Link, request: Request) -> Image.Image:
        reply = Reply(*REPLY.unpack(link.read(REPLY.size)))
        if reply.outcome == Outcome.OK:
            # never more than was promised and never nothing, whatever the child says
            if not 0 < reply.width * reply.height <= request.width * request.height:
                raise EOFError
            pixels = link.read(reply.width * reply.height * 3)
            return Image.frombytes("RGB", (reply.width, reply.height), pixels)
        if reply.outcome == Outcome.UNSUPPORTED:
            raise unsupported("the image")
        raise ImageError(self._text(reply.outcome, request.max_bytes))

    def _text(self, outcome: int, max_bytes: int) -> str:
        if outcome == Outcome.TOO_LARGE:
            limit = min(max_bytes, self.limits.memory_bytes) >> 20
            return f"the image needs more memory to decode than the limit of {limit} MiB"
        if outcome == Outcome.CONTRADICTION:
            return "the image has another size than its header says"
        return DAMAGED

    @property
    def _cause(self) -> str:
        return (
            f"the image could not be decoded within {self.limits.cpu_s} processor seconds "
            f"and {self.limits.memory_bytes >> 20} MiB"
        )

    @property
    def _starved(self) -> str:
        return f"this server is too busy to decode the image within {self.limits.wall_s:g} s"


class _Link:
    """Our end of the socket that is the child's standard input and output."""

    def __init__(self, sock: socket.socket) -> None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._sock = sock
        self._end_s = monotonic()

    def set_limit(self, seconds: float) -> None:
        """From now, for all that follows."""
        self._end_s = monotonic() + seconds

    def write(self, data: bytes) -> None:
        """Raises TimeoutError after the limit, another OSError if the child has ended."""
        rest = memoryview(data)
        while rest:
            self._await_turn()
            rest = rest[self._sock.send(rest) :]

    def read(self, num_bytes: int) -> bytearray:
        """Exactly so many. Raises TimeoutError after the limit, EOFError or another OSError if the
        child ends before."""
        data = bytearray(num_bytes)
        rest = memoryview(data)
        while rest:
            self._await_turn()
            num_read = self._sock.recv_into(rest)
            if not num_read:
                raise EOFError
            rest = rest[num_read:]
        return data

    def close(self) -> None:
        """Let go of the socket. Nobody may be using it any more."""
        self._sock.close()

    def _await_turn(self) -> None:
        """The next call may take what is left of the limit."""
        seconds = self._end_s - monotonic()
        if seconds <= 0:
            raise TimeoutError
        self._sock.settimeout(seconds)


def _spawn(limits: ChildLimits) -> tuple[subprocess.Popen[bytes], _Link]:
    variables = {
        # large blocks go back to the system at once, so that no picture pays for the one before
        "MALLOC_MMAP_THRESHOLD_": str(2**17),
        "OPENBLAS_NUM_THREADS": "1",  # each thread would cost address space
    }
    process, ours = start_child(CHILD, limits.memory_bytes, limits.cpu_s, variables)
    return process, _Link(ours)
