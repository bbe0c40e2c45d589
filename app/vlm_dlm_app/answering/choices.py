"""Several answers to one prompt as one stream of events, the prompt computed once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from vlm_dlm.events import Failed, GenerationEvent, Started
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.intake import Ask
from vlm_dlm_app.answering.tracking import tracked
from vlm_dlm_app.http.fan_in import Group, merged
from vlm_dlm_app.state import Services

Indexed = tuple[int, GenerationEvent]


async def choices(
    services: Services, ask: Ask, tickets: Sequence[Ticket], request_id: str
) -> AsyncGenerator[Indexed, None]:
    """Events of all tickets as they come, each with the ticket's index.

    The first ticket should keep its prompt: the others begin once it is computed, and wait for room
    where the queue is full. Raises the first error that any of them raises, and then ends them all,
    as closing does.
    """
    group = Group()

    async def answer(index: int, ticket: Ticket) -> AsyncGenerator[Indexed, None]:
        events = tracked(
            services,
            # it may have waited for the first one, and less of the deadline is left
            replace(ticket, deadline_s=ask.rest_s),
            request_id,
            arrived_s=ask.arrived_s,
            is_patient=index > 0,
            group=group,
        )
        async with aclosing(events):
            async for event in events:
                # whoever reads stops here, and so ends the others
                group.is_lost = group.is_lost or isinstance(event, Failed)
                yield index, event

    answers = [answer(*entry) for entry in enumerate(tickets)]
    stream = answers[0] if len(answers) == 1 else merged(answers, _is_computed, group)
    async with aclosing(stream):
        async for indexed in stream:
            yield indexed


def _is_computed(indexed: Indexed) -> bool:
    """Whether its prompt is: an answer then says more than that it started."""
    return not isinstance(indexed[1], Started)
