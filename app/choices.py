"""Several answers to one prompt as one stream of events, the prompt computed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.disconnect import ended
from app.state import Services
from app.tracking import tracked
from vlm_dlm.events import GenerationEvent, Started
from vlm_dlm.serving.service import Ticket

Indexed = tuple[int, GenerationEvent]


async def choices(
    services: Services, tickets: Sequence[Ticket], request_id: str
) -> AsyncGenerator[Indexed, None]:
    """Events of all tickets as they come, each with the ticket's index.

    The first ticket should keep its prompt: the others begin once it is computed. Raises the first
    error that any of them raises, and then ends them all, as closing does.
    """
    if len(tickets) == 1:
        async with aclosing(tracked(services, tickets[0], request_id)) as events:
            async for event in events:
                yield 0, event
        return
    found: asyncio.Queue[Indexed | Exception | None] = asyncio.Queue()
    is_computed = asyncio.Event()

    async def follow(index: int, ticket: Ticket) -> None:
        try:
            if index:
                await is_computed.wait()
            async with aclosing(tracked(services, ticket, request_id)) as events:
                async for event in events:
                    found.put_nowait((index, event))
                    if not isinstance(event, Started):
                        is_computed.set()
        except Exception as error:
            found.put_nowait(error)
        found.put_nowait(None)

    tasks = [asyncio.create_task(follow(*entry)) for entry in enumerate(tickets)]
    try:
        num_open = len(tasks)
        while num_open:
            item = await found.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        await ended(*tasks)
