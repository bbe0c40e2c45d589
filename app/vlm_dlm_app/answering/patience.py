"""Work that was accepted is done: it waits for room in the queue instead of being refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import monotonic
from typing import cast

from vlm_dlm.errors import DeadlineError, QueueFullError
from vlm_dlm.events import GenerationEvent
from vlm_dlm.serving.queue.service import Service, Ticket

PAUSE_S = 0.05  # asking again takes microseconds


async def patiently(service: Service, ticket: Ticket) -> AsyncGenerator[GenerationEvent, None]:
    """`Service.generate` for a further part of a request whose first part was accepted.

    Where the queue is full it waits for room until the ticket's deadline. Raises what
    `Service.generate` raises, but for QueueFullError.
    """
    limit_s = service.config.deadline_s if ticket.deadline_s is None else ticket.deadline_s
    ends_s = None if limit_s is None else monotonic() + limit_s
    while True:
        stream = cast(AsyncGenerator[GenerationEvent, None], service.generate(ticket))
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
                raise DeadlineError("the deadline passed while the request was waiting")
            ticket.deadline_s = left_s
