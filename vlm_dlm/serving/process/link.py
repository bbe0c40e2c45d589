"""What passes between the server and one engine process: many streams over one socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from math import ceil
from time import perf_counter

from vlm_dlm.errors import EngineError, VlmDlmError
from vlm_dlm.events import Failed, GenerationEvent, is_terminal
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.process.child import EngineChild
from vlm_dlm.serving.process.wire import Frame, decode_error, decode_item, encode, encode_request

LOST = "the engine stopped while this request was running"
STALLED = "the engine does not get on"
Item = GenerationEvent | VlmDlmError
OnStall = Callable[[str], None]  # the reason, empty once it gets on again
OnState = Callable[[Phase, float, str, str], None]  # phase, progress, device, dtype


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A child that answers none of `num_pings` questions, `ping_s` seconds apart, is given up; one
    that has never said anything, because its interpreter starts, after `num_first_pings`. One that
    answers, but from the same step of its engine, after `num_step_pings`, or `step_factor` times
    the longest step that it has done, if that is more: a long prompt on a slow machine is no
    fault. It counts as stalled, and may come back, after `num_quiet_pings`, or `stall_factor`
    times the longest step.

    Counted in questions and not on a clock, so that a server that was itself stopped or asleep
    does not blame its child.
    """

    ping_s: float = 1.0
    num_pings: int = 30
    num_first_pings: int = 300
    num_quiet_pings: int = 5
    num_step_pings: int = 60
    step_factor: float = 20.0
    stall_factor: float = 3.0

    def step_pings(self, longest_s: float) -> int:
        """Answers from one step after which the child is given up."""
        return max(self.num_step_pings, ceil(self.step_factor * longest_s / self.ping_s))

    def stall_pings(self, longest_s: float) -> int:
        """Answers from one step after which the child counts as stalled."""
        return max(self.num_quiet_pings, ceil(self.stall_factor * longest_s / self.ping_s))


@dataclass(frozen=True, slots=True)
class ChildExit:
    """Why a child ended. refusal: it cannot run what it was told to; another could not either."""

    cause: str
    refusal: VlmDlmError | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One request at the engine. Nothing follows the item that ends it."""

    number: int
    request_id: str
    items: asyncio.Queue[Item]


class EngineLink:
    """The life of one child from loading to its loss."""

    def __init__(
        self,
        child: EngineChild,
        heartbeat: Heartbeat,
        on_state: OnState,
        on_stall: OnStall = lambda reason: None,
    ) -> None:
        self.child = child
        self._heartbeat = heartbeat
        self._on_state = on_state
        self._on_stall = on_stall
        self._streams: dict[int, Stream] = {}
        self._numbers = count(1)
        self._num_unanswered = 0
        self._step, self._num_same = -1, 0  # of the engine, and answers that came from it
        self._num_allowed = heartbeat.num_first_pings
        self._cause = ""  # known before the child's end, where we end it
        self._refusal: VlmDlmError | None = None
        self._is_lost = asyncio.Event()

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    async def run(self) -> ChildExit:
        """Load and serve until the child is lost; every open stream has failed by then."""
        self.child.link.send(encode({"kind": "load"}))
        watch = asyncio.create_task(self._watch())
        try:
            await self._receive()
        finally:
            watch.cancel()
            self._fail_streams()
            self._is_lost.set()
        if self._cause:
            self.child.kill()
        return ChildExit(self._cause, self._refusal)

    def open(self, request: GenerationRequest) -> Stream:
        """Submit. Raises what makes a request impossible to send. A child that is lost already
        fails it at once."""
        stream = Stream(next(self._numbers), request.request_id, asyncio.Queue())
        if self._is_lost.is_set():
            _fail(stream)
            return stream
        self.child.link.send(encode_request(stream.number, request))
        self._streams[stream.number] = stream
        return stream

    def leave(self, stream: Stream) -> None:
        """Nobody listens any more: abort, unless it has ended."""
        if self._streams.pop(stream.number, None) is not None:
            self.child.link.send(encode({"kind": "abort", "stream": stream.number}))

    async def close(self, grace_s: float) -> None:
        """Ask the child to end every stream, and end it then or after `grace_s`."""
        if self._streams:
            self.child.link.send(encode({"kind": "close"}))
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._is_lost.wait()
        self.child.kill()

    async def _receive(self) -> None:
        try:
            while (frames := await self.child.link.receive()) is not None:
                if self._num_unanswered >= self._heartbeat.num_quiet_pings:
                    self._on_stall("")
                self._num_unanswered, self._num_allowed = 0, self._heartbeat.num_pings
                for frame in frames:
                    self._take(frame)
        except EngineError as error:
            self._cause = str(error)

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case "event" | "error":
                self._pass_on(frame)
            case "state":
                self._on_state(*_state_fields(frame))
            case "fatal":
                self._refusal = decode_error(frame)
                self._cause = str(self._refusal)
            case "pong":
                self._note_step(frame)
            case kind:
                raise EngineError(f"the engine sent a message of the unknown kind {kind[:40]!r}")

    def _note_step(self, frame: Frame) -> None:
        """Whether the engine gets on, where it says."""
        header, was_stuck = frame.header, self._num_same
        step: int = int(header.get("num_steps", -1))
        is_same: bool = bool(header.get("is_busy")) and step == self._step
        self._step, self._num_same = step, self._num_same + 1 if is_same else 0
        longest_s = float(header.get("longest_s", 0.0))
        if self._num_same >= self._heartbeat.step_pings(longest_s):
            self._cause = f"one step took more than {self._num_same * self._heartbeat.ping_s:g} s"
            self.child.kill()
        elif self._num_same >= self._heartbeat.stall_pings(longest_s):
            self._on_stall(STALLED)
        elif was_stuck and not self._num_same:
            self._on_stall("")

    def _pass_on(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:  # left while this was under way
            return
        item = decode_item(frame)
        if isinstance(item, VlmDlmError) or is_terminal(item):
            del self._streams[frame.stream]
        stream.items.put_nowait(item)

    def _fail_streams(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            _fail(stream)

    async def _watch(self) -> None:
        """Ask for a sign of life; kill a child that gives none."""
        while self._num_unanswered < self._num_allowed:
            self._num_unanswered += 1
            self.child.link.send(encode({"kind": "ping"}))
            await asyncio.sleep(self._heartbeat.ping_s)
            if self._num_unanswered >= self._heartbeat.num_quiet_pings:
                self._on_stall(STALLED)
        self._cause = f"it was silent for {self._num_unanswered * self._heartbeat.ping_s:g} s"
        self.child.kill()


def _fail(stream: Stream) -> None:
    stream.items.put_nowait(Failed(stream.request_id, EngineError.code, LOST, perf_counter()))


def _state_fields(frame: Frame) -> tuple[Phase, float, str, str]:
    """Raises EngineError for a malformed `state` frame."""
    raw = frame.header
    try:
        device, dtype = str(raw.get("device", "")), str(raw.get("dtype", ""))
        return Phase(raw["phase"]), float(raw["progress"]), device, dtype
    except (KeyError, TypeError, ValueError):
        raise EngineError("the engine sent a state that cannot be read") from None
