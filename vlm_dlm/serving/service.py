"""An engine behind its waiting queue: admission, turns, deadlines, draining. One event loop.

Requests wait here and not in the engine, so that turns are fair and a caller who leaves costs the
engine nothing. What a running request costs is `running.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from enum import StrEnum
from time import monotonic

from vlm_dlm.engine.base import Engine
from vlm_dlm.errors import BadInputError, DeadlineError, QueueFullError, UnavailableError
from vlm_dlm.events import Finished, GenerationEvent, is_terminal
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.drain_rate import DrainRate
from vlm_dlm.serving.engine_state import ENDING_S, SOON_S, Phase
from vlm_dlm.serving.fair_queue import FairQueue, Priority, Waiting
from vlm_dlm.serving.managed import ManagedEngine, unavailable
from vlm_dlm.serving.running import SHUTTING_DOWN, Running

Turn = asyncio.Future[None]
LOST = "the engine stopped while this request was waiting"


class ServiceState(StrEnum):
    """Only READY takes new requests."""

    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Bounds of the queue. max_running: requests in the engine at once, None takes the engine's
    own limit. deadline_s: for requests that name none, None for no deadline."""

    max_waiting: int = 64
    max_waiting_tokens: int = 65536
    max_running: int | None = None
    deadline_s: float | None = 300.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request and what the queue must know of it. deadline_s: seconds from now for the whole
    answer, None takes the service's own."""

    request: GenerationRequest
    client: str = ""
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None


class Service:
    """Runs as many requests as the engine takes; the others wait their turn."""

    def __init__(self, engine: Engine, config: ServiceConfig | None = None) -> None:
        self.engine = engine
        self.config = config or ServiceConfig()
        self.state = ServiceState.READY
        limit, wanted = engine.capabilities.max_running, self.config.max_running
        if wanted is not None and not 1 <= wanted <= limit:
            raise BadInputError(f"max_running is {wanted}; this engine runs 1 to {limit}")
        self.max_running = limit if wanted is None else wanted
        self.num_running = 0
        self.drain_rate = DrainRate()
        self._queue: FairQueue[Turn] = FairQueue(
            self.config.max_waiting, self.config.max_waiting_tokens
        )
        self._running: set[Running] = set()
        self._num_open = 0  # requests whose caller has not had the last event
        self._idle = asyncio.Event()
        self._idle.set()
        if isinstance(engine, ManagedEngine):
            engine.on_lost(lambda: self._refuse_waiting(LOST, SOON_S))

    @property
    def num_waiting(self) -> int:
        return len(self._queue)

    @property
    def num_waiting_tokens(self) -> int:
        """Prompt tokens of the requests that wait."""
        return self._queue.num_tokens

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken, as far as the queue has room."""
        engine = self.engine
        is_up = not isinstance(engine, ManagedEngine) or engine.state.phase is Phase.READY
        return is_up and self.state is ServiceState.READY

    async def generate(self, ticket: Ticket) -> AsyncIterator[GenerationEvent]:
        """Events of one request, ending in exactly one Finished or Failed.

        Closing the iterator, or cancelling who iterates, takes the request out of the queue or
        aborts it. Raises, before any event: UnavailableError, QueueFullError, or DeadlineError for
        one that never got its turn; and what the engine refuses.
        """
        limit = self.config.deadline_s if ticket.deadline_s is None else ticket.deadline_s
        deadline_s = None if limit is None else asyncio.get_running_loop().time() + limit
        self._num_open += 1
        self._idle.clear()
        try:
            began_s = monotonic()
            await self._await_turn(ticket, deadline_s)
            waited_s = monotonic() - began_s
            running = Running(self.engine, ticket.request, deadline_s, self._end_turn)
            self._running.add(running)
            try:
                while (event := await running.next()) is not None:
                    yield _with_wait(event, waited_s)
                    if is_terminal(event):
                        return
            finally:
                self._running.discard(running)
                await running.close()
        finally:
            self._num_open -= 1
            if not self._num_open:
                self._idle.set()

    def check_room(self, client: str, num_tokens: int = 1) -> None:
        """Raises what `generate` would raise at once for a request with such a prompt.

        Takes microseconds: to be asked before anything is done for a request.
        """
        self._check_ready()
        if not self._has_free_turn:
            self._check_queue(client, num_tokens)

    async def drain(self, grace_s: float) -> bool:
        """Take nothing new and wait until everybody has had the last event. False if the grace was
        too short."""
        self.state = ServiceState.DRAINING
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abort_all(self) -> None:
        """Take nothing new and end everything now: who runs gets Failed as the last event, who
        waits gets UnavailableError."""
        self.state = ServiceState.DRAINING
        self._refuse_waiting(SHUTTING_DOWN, ENDING_S)
        for running in tuple(self._running):
            running.abort()

    def retry_after_s(self) -> int:
        """Whole seconds until those waiting now will have left."""
        return self.drain_rate.retry_after_s(len(self._queue), monotonic())

    @property
    def _has_free_turn(self) -> bool:
        return self.num_running < self.max_running and not len(self._queue)

    def _check_ready(self) -> None:
        if self.state is not ServiceState.READY:
            message = f"the service is {self.state} and takes no new requests"
            raise UnavailableError(message, ENDING_S)
        if not self.is_ready:
            assert isinstance(self.engine, ManagedEngine)
            raise unavailable(self.engine.state)

    def _check_queue(self, client: str, num_tokens: int) -> None:
        try:
            self._queue.check_room(client, num_tokens)
        except QueueFullError as error:
            error.retry_after_s = self.retry_after_s()
            raise

    async def _await_turn(self, ticket: Ticket, deadline_s: float | None) -> None:
        """Return once a slot is this request's. Leaves nothing behind if it never is."""
        self._check_ready()
        if self._has_free_turn:
            self.num_running += 1
            return
        num_tokens = len(ticket.request.prompt.token_ids)
        self._check_queue(ticket.client, num_tokens)
        turn: Turn = asyncio.get_running_loop().create_future()
        waiting = Waiting(turn, ticket.client, num_tokens, ticket.priority)
        self._queue.push(waiting)
        try:
            async with asyncio.timeout_at(deadline_s):
                await turn
        except BaseException as error:
            if not self._queue.remove(waiting) and _was_granted(turn):
                self._end_turn()  # the turn came in the same moment
            if isinstance(error, TimeoutError):
                raise DeadlineError("the deadline passed while the request was waiting") from None
            raise

    def _end_turn(self) -> None:
        """A request left the engine: the next ones get their turn."""
        self.num_running -= 1
        self.drain_rate.note_end(monotonic())
        while self.num_running < self.max_running and (waiting := self._queue.pop()) is not None:
            if not waiting.item.done():
                self.num_running += 1
                waiting.item.set_result(None)

    def _refuse_waiting(self, reason: str, retry_after_s: int) -> None:
        """Nobody who waits will get a turn."""
        while (waiting := self._queue.pop()) is not None:
            if not waiting.item.done():
                waiting.item.set_exception(UnavailableError(reason, retry_after_s))


def _with_wait(event: GenerationEvent, waited_s: float) -> GenerationEvent:
    """The engine knows only how long a request waited in it; here it waits as well."""
    if not isinstance(event, Finished):
        return event
    stats = replace(event.stats, queue_s=event.stats.queue_s + waited_s)
    return replace(event, stats=stats)


def _was_granted(turn: Turn) -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None
