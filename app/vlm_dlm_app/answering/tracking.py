"""Every answer is counted and leaves one line in the log, however it ends. No text of a client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, nullcontext
from functools import partial
from time import monotonic

from vlm_dlm.errors import DeadlineError, QueueFullError, VlmDlmError
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent, Started, Stats
from vlm_dlm.serving.queue.service import WAITED_TOO_LONG, Service, Ticket
from vlm_dlm_app.http.auth import client_hash
from vlm_dlm_app.http.fan_in import Group
from vlm_dlm_app.state import Services
from vlm_dlm_app.telemetry.metrics import Metrics
from vlm_dlm_app.telemetry.tracing import Answered

logger = logging.getLogger("vlm_dlm_app.answers")
PAUSE_S = 0.05  # between two looks for room in the queue: one takes microseconds
LEFT = (asyncio.CancelledError, GeneratorExit)


async def tracked(
    services: Services,
    ticket: Ticket,
    request_id: str,
    *,
    arrived_s: float | None = None,
    is_patient: bool = False,
    group: Group | None = None,
) -> AsyncGenerator[GenerationEvent, None]:
    """`Service.generate`, with metrics and one log line about how it ended.

    Close it (`aclosing`) to abort. request_id: of the HTTP request (`request.state.request_id`),
    for the log alone. arrived_s: when the request came, on the monotonic clock, None for now.
    is_patient: waits for room instead of being refused. group: whose loss ends it too. Raises what
    `Service.generate` raises.
    """
    watch = _Watch(services.metrics, ticket.request.mode, arrived_s)
    generate = partial(patiently, services.service) if is_patient else services.service.generate
    stream = generate(ticket)
    try:
        async with aclosing(stream):
            async for event in stream:
                watch.see(event)
                yield event
    except LEFT:
        watch.note_end(is_lost=group is not None and group.is_lost)
        raise
    except Exception as error:
        watch.note_error(error)
        raise
    finally:
        watch.end()
        logger.info("%s", _line(request_id, ticket, watch))
        if services.tracing is not None:
            services.tracing.note(_answered(services.tracing.model, ticket, watch))


async def patiently(service: Service, ticket: Ticket) -> AsyncGenerator[GenerationEvent, None]:
    """`Service.generate` for a further part of a request whose first part was accepted:
    work that was accepted is done.

    Where the queue is full it waits for room until the ticket's deadline. Raises what
    `Service.generate` raises, but for QueueFullError.
    """
    limit_s = service.config.deadline_s if ticket.deadline_s is None else ticket.deadline_s
    ends_s = None if limit_s is None else monotonic() + limit_s
    while True:
        stream = service.generate(ticket)
        try:
            async with aclosing(stream):
                async for event in stream:
                    yield event
            return
        except QueueFullError:  # comes before any event
            await asyncio.sleep(PAUSE_S)
        if ends_s is not None:
            left_s = ends_s - monotonic()
            if left_s <= 0:
                raise DeadlineError(WAITED_TOO_LONG)
            ticket.deadline_s = left_s


@asynccontextmanager
async def preparing(services: Services) -> AsyncGenerator[None]:
    """Around the work before a request has a ticket: counts who is refused and who leaves."""
    tracing = services.tracing
    try:
        with nullcontext() if tracing is None else tracing.preparing():
            yield
    except LEFT:
        services.metrics.count_abort("preparing")
        raise
    except VlmDlmError as error:
        services.metrics.count_refusal(error.code)
        raise


class _Watch:
    """How far one answer is, and what its metrics must hear of that.

    arrived_s: when its request came, None for now. queue_s: since it lined up. first_s, whole_s:
    since its request came.
    """

    def __init__(self, metrics: Metrics, mode: str, arrived_s: float | None) -> None:
        self.cause = "unknown"
        self.num_tokens = 0
        self.began_s = monotonic()
        self.arrived_s = self.began_s if arrived_s is None else arrived_s
        self.queue_s: float | None = None
        self.first_s: float | None = None
        self.whole_s = 0.0
        self.stats: Stats | None = None
        self._last_s = self.began_s
        self._metrics = metrics
        self._mode = mode
        metrics.waiting(mode, 1)

    def see(self, event: GenerationEvent) -> None:
        """Take in one event."""
        now = monotonic()
        if isinstance(event, Started):
            self._start(event, now)
        elif isinstance(event, Committed):
            self._count_tokens(len(event.tokens), now)
        elif isinstance(event, Finished):
            self._finish(event, now)
        elif isinstance(event, Failed):
            self.cause = f"failed:{event.code}"
            self._metrics.count_failure(self._mode, event.code)

    def note_end(self, is_lost: bool) -> None:
        """Nobody wants the rest: the client has left, or another answer to its request is lost, and
        this one is dropped with it. After the last event nothing is lost by that."""
        if self.cause != "unknown":
            return
        if is_lost:
            self.cause = "dropped"
        else:
            self.cause = f"left:{self._stage}"
            self._metrics.count_abort(self._stage)

    def note_error(self, error: Exception) -> None:
        """There was no answer, or none that ended as it must."""
        code = error.code if isinstance(error, VlmDlmError) else VlmDlmError.code
        if self.queue_s is None:
            self.cause = f"refused:{code}"
            self._metrics.count_refusal(code)
        else:
            self.cause = f"failed:{code}"
            self._metrics.count_failure(self._mode, code)

    def end(self) -> None:
        """It is over: leave the gauges as they were."""
        self.whole_s = monotonic() - self.arrived_s
        if self.queue_s is None:
            self._metrics.waiting(self._mode, -1)
        else:
            self._metrics.running(self._mode, -1)

    @property
    def _stage(self) -> str:
        if self.queue_s is None:
            return "waiting"
        return "prefill" if self.first_s is None else "decode"

    def _start(self, event: Started, now: float) -> None:
        self.queue_s = now - self.began_s
        self._metrics.waiting(self._mode, -1)
        self._metrics.running(self._mode, 1)
        self._metrics.count_start(self._mode, event.num_prompt_tokens, self.queue_s)

    def _count_tokens(self, num_tokens: int, now: float) -> None:
        first_s = None
        if self.first_s is None:
            first_s = self.first_s = now - self.arrived_s
        self._metrics.count_tokens(self._mode, num_tokens, first_s, now - self._last_s)
        self._last_s = now
        self.num_tokens += num_tokens

    def _finish(self, event: Finished, now: float) -> None:
        self.cause, self.stats = event.reason, event.stats
        whole_s = now - self.arrived_s
        self._metrics.count_answer(self._mode, event.reason, event.stats, whole_s)


def _line(request_id: str, ticket: Ticket, watch: _Watch) -> str:
    """`key=value` pairs; every value is ours or checked, so none can hold a space or a newline."""
    request, stats = ticket.request, watch.stats
    pairs: dict[str, object] = {
        "request": request_id,
        "client": client_hash(ticket.client),
        "mode": request.mode,
        "cause": watch.cause,
        "prompt_tokens": len(request.prompt.token_ids),
        "image_tokens": request.prompt.num_image_tokens,
        "tokens": watch.num_tokens if stats is None else stats.num_tokens,
        "forwards": "-" if stats is None else stats.num_forwards,
        "queue_ms": _ms(watch.queue_s),
        "first_token_ms": _ms(watch.first_s),
        "total_ms": _ms(watch.whole_s),
    }
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def _answered(model: str, ticket: Ticket, watch: _Watch) -> Answered:
    request = ticket.request
    return Answered(
        model=f"{model}:{request.mode}",
        mode=request.mode,
        cause=watch.cause,
        began_s=watch.began_s,
        queue_s=watch.queue_s,
        num_prompt_tokens=len(request.prompt.token_ids),
        num_tokens=watch.num_tokens,
        stats=watch.stats,
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
