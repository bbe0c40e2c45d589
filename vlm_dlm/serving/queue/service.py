"""An engine behind its waiting queue: admission, turns, deadlines. One event loop.

Requests wait here and not in the engine, so that turns are fair and a caller who leaves costs the
engine nothing. What a running request costs is `running.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from time import monotonic

from vlm_dlm.engine.base import Engine
from vlm_dlm.errors import BadInputError, DeadlineError, QueueFullError, UnavailableError
from vlm_dlm.events import Finished, GenerationEvent, is_terminal
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import ENDING_S, SOON_S, Phase
from vlm_dlm.serving.managed import ManagedEngine, unavailable
from vlm_dlm.serving.queue.drain_rate import DrainRate
from vlm_dlm.serving.queue.fair_queue import FairQueue, Priority, Waiting
from vlm_dlm.serving.queue.running import SHUTTING_DOWN, Running
from vlm_dlm.serving.queue.turns import Turn, Turns, slots_needed

LOST = "the engine stopped while this request was waiting"
WAITED_TOO_LONG = "the deadline passed while the request was waiting"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Bounds of the queue.

    max_running: requests in the engine at once, None takes the engine's own limit.
    deadline_s: for requests that name none, None for no deadline.
    """

    max_waiting: int = 64
    max_waiting_tokens: int = 65536
    max_running: int | None = None
    deadline_s: float | None = 300.0


@dataclass(slots=True)
class Ticket:
    """A request and what the queue must know of it.

    deadline_s: seconds from now for the whole answer, None takes the service's own.

    Once it runs, the request here has no pixels any more.
    """

    request: GenerationRequest
    client: str = ""
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Applicant:
    """A turn that somebody waits for.

    granted: done once it is theirs.
    """

    turn: Turn
    granted: asyncio.Future[None]


class Service:
    """Runs as many requests as the engine takes; the others wait their turn."""

    def __init__(self, engine: Engine, config: ServiceConfig | None = None) -> None:
        self.engine = engine
        self.config = config or ServiceConfig()
        self.is_closed = False  # for good, by `abort_all`
        offered, wanted = engine.capabilities, self.config.max_running
        limit = offered.max_running
        if wanted is not None and not 1 <= wanted <= limit:
            raise BadInputError(f"max_running is {wanted}; this engine runs 1 to {limit}")
        self.max_running = limit if wanted is None else wanted
        self.drain_rate = DrainRate()
        self._turns = Turns(self.max_running, offered.max_cache_tokens)
        self._queue: FairQueue[_Applicant] = FairQueue(
            self.config.max_waiting, self.config.max_waiting_tokens
        )
        self._waiting: dict[str, Waiting[_Applicant]] = {}  # by the request's id
        self._running: set[Running] = set()
        if isinstance(engine, ManagedEngine):
            engine.on_lost(lambda: self._refuse_waiting(LOST, SOON_S))

    @property
    def num_running(self) -> int:
        return len(self._turns)

    @property
    def num_waiting(self) -> int:
        return len(self._queue)

    @property
    def num_waiting_tokens(self) -> int:
        """Prompt tokens of the requests that wait."""
        return self._queue.num_tokens

    def position(self, request_id: str) -> int | None:
        """Place in line of a request that waits, from 1; None for any other."""
        waiting = self._waiting.get(request_id)
        return None if waiting is None else self._queue.position(waiting)

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken, as far as the queue has room."""
        engine = self.engine
        is_up = not isinstance(engine, ManagedEngine) or engine.state.phase is Phase.READY
        return is_up and not self.is_closed

    async def generate(self, ticket: Ticket) -> AsyncGenerator[GenerationEvent, None]:
        """Events of one request, ending in exactly one Finished or Failed.

        Closing the iterator, or cancelling who iterates, takes the request out of the queue or
        aborts it. Raises, before any event: UnavailableError, QueueFullError, or DeadlineError for
        one that never got its turn; and what the engine refuses.
        """
        limit = self.config.deadline_s if ticket.deadline_s is None else ticket.deadline_s
        deadline_s = None if limit is None else asyncio.get_running_loop().time() + limit
        began_s = monotonic()
        turn = await self._await_turn(ticket, deadline_s)
        waited_s = monotonic() - began_s
        running = Running(
            self.engine, ticket.request, deadline_s, lambda is_over: self._on_end(turn, is_over)
        )
        ticket.request = ticket.request.without_pixels()  # the engine alone holds them now
        self._running.add(running)
        try:
            while (event := await running.next()) is not None:
                yield _with_wait(event, waited_s)
                if is_terminal(event):
                    return
        finally:
            self._running.discard(running)
            await running.close()

    def check_room(self, client: str, num_tokens: int = 1) -> None:
        """Raises what `generate` would raise at once for a request with such a prompt.

        Takes microseconds: to be asked before anything is done for a request.
        """
        self._check_ready(None)
        if not self._is_free(num_tokens):
            self._check_queue(client, num_tokens)

    def abort_all(self) -> None:
        """Take nothing new and end everything now: who runs gets Failed as the last event, who
        waits gets UnavailableError."""
        self.is_closed = True
        self._refuse_waiting(SHUTTING_DOWN, ENDING_S)
        for running in tuple(self._running):
            running.abort()

    def retry_after_s(self) -> int:
        """Whole seconds until those waiting now will have left."""
        return self.drain_rate.retry_after_s(len(self._queue), monotonic())

    def _is_free(self, num_slots: int) -> bool:
        """Whether nobody needs to wait for such a turn."""
        return not len(self._queue) and self._turns.has_room(num_slots)

    def _check_ready(self, mode: str | None) -> None:
        """mode: None where it is not known yet."""
        if self.is_closed:
            raise UnavailableError(SHUTTING_DOWN, ENDING_S)
        if isinstance(self.engine, ManagedEngine):
            state = self.engine.state_of(mode)
            if state.phase is not Phase.READY:
                raise unavailable(state)

    def _check_queue(self, client: str, num_tokens: int) -> None:
        try:
            self._queue.check_room(client, num_tokens)
        except QueueFullError as error:
            error.retry_after_s = self.retry_after_s()
            raise

    async def _await_turn(self, ticket: Ticket, deadline_s: float | None) -> Turn:
        """Return once a turn is this request's. Leaves nothing behind if it never is."""
        mode = ticket.request.mode
        self._check_ready(mode)
        limits = self.engine.capabilities_of(mode)
        turn = Turn(ticket.client, slots_needed(ticket.request, limits))
        if self._is_free(turn.num_slots):
            self._turns.take(turn)
            return turn
        num_tokens = len(ticket.request.prompt.token_ids)
        self._check_queue(ticket.client, num_tokens)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = Waiting(_Applicant(turn, granted), ticket.client, num_tokens, ticket.priority)
        self._queue.push(waiting)
        self._waiting[ticket.request.request_id] = waiting
        self._grant()  # it may go before those who have much already
        try:
            async with asyncio.timeout_at(deadline_s):
                await granted
        except BaseException as error:
            if not self._queue.remove(waiting) and _was_granted(granted):
                self._turns.give_back(turn)  # it came in the same moment
            self._grant()  # to those behind, who may need less
            if isinstance(error, TimeoutError):
                raise DeadlineError(WAITED_TOO_LONG) from None
            raise
        finally:
            self._waiting.pop(ticket.request.request_id, None)
        return turn

    def _on_end(self, turn: Turn, is_over: bool) -> None:
        """A request left the engine, which had ended it or not."""
        self._turns.give_back(turn)
        if is_over:
            self.drain_rate.note_end(monotonic())
        self._grant()

    def _grant(self) -> None:
        """Turns to those whose they are, as far as there is room."""
        turns = self._turns
        while (
            waiting := self._queue.pop(
                lambda one: one.granted.done() or turns.has_room(one.turn.num_slots),
                lambda one: turns.is_over_half(one.turn),
            )
        ) is not None:
            if not waiting.item.granted.done():
                turns.take(waiting.item.turn)
                waiting.item.granted.set_result(None)

    def _refuse_waiting(self, reason: str, retry_after_s: int) -> None:
        """Nobody who waits will get a turn."""
        while (waiting := self._queue.pop()) is not None:
            if not waiting.item.granted.done():
                waiting.item.granted.set_exception(UnavailableError(reason, retry_after_s))


def _with_wait(event: GenerationEvent, waited_s: float) -> GenerationEvent:
    """The engine knows only how long a request waited in it; here it waits as well."""
    if not isinstance(event, Finished):
        return event
    stats = replace(event.stats, queue_s=event.stats.queue_s + waited_s)
    return replace(event, stats=stats)


def _was_granted(granted: asyncio.Future[None]) -> bool:
    return granted.done() and not granted.cancelled() and granted.exception() is None
