"""How every answer begins: the prompt prepared once, then a ticket for each mode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vlm_dlm.events import GenerationEvent
from vlm_dlm.processor.image import Grid
from vlm_dlm.request import PromptInput
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.comparison import Comparison
from vlm_dlm_app.answering.intake import Ask, fitted, prepare, ticket
from vlm_dlm_app.answering.tracking import preparing, tracked
from vlm_dlm_app.http.fan_in import Group
from vlm_dlm_app.schemas.compare import SeenImage
from vlm_dlm_app.state import Services


async def prepared(
    services: Services, ask: Ask, client: str, params: Mapping[str, Any]
) -> tuple[Ask, PromptInput]:
    """The prompt, and what is asked with the max_tokens that fit after it. params: of each mode.

    Raises ApiError or VlmDlmError.
    """
    async with preparing(services):
        prompt = await prepare(services, ask, client)
    return fitted(services, ask, prompt, params), prompt


async def start_answer(
    services: Services, ask: Ask, mode: str, params: Any, client: str, request_id: str
) -> AsyncGenerator[GenerationEvent, None]:
    """The events of one answer; it lines up once they are asked for. request_id: of the HTTP
    request, for the log. Raises ApiError or VlmDlmError."""
    ask, prompt = await prepared(services, ask, client, {mode: params})
    own = ticket(ask, prompt, client, mode, params)
    return tracked(services, own, request_id, arrived_s=ask.arrived_s)


async def start_comparison(
    services: Services,
    ask: Ask,
    entries: Mapping[str, tuple[str, Any]],
    client: str,
    request_id: str,
    *,
    is_parallel: bool = False,
    has_one_deadline: bool = False,
) -> Comparison:
    """One prompt answered several times. entries: mode and its Params, by the label of the answer,
    in the order in which they run. has_one_deadline: for all of them together, not for each.

    Raises ApiError or VlmDlmError.
    """
    ask, prompt = await prepared(services, ask, client, dict(entries.values()))
    last = list(entries)[-1]
    tickets = {
        label: ticket(ask, prompt, client, mode, params, keep_prompt=label != last)
        for label, (mode, params) in entries.items()
    }
    group = Group()

    def generate(own: Ticket, is_first: bool) -> AsyncGenerator[GenerationEvent, None]:
        # A later one counts from when it lines up: what it waited for was not the queue.
        arrived_s = ask.arrived_s if is_first else None
        return tracked(
            services, own, request_id, arrived_s=arrived_s, is_patient=not is_first, group=group
        )

    return Comparison(
        generate,
        tickets,
        is_parallel=is_parallel,
        deadline_s=ask.rest_s if has_one_deadline else None,
        group=group,
        position=services.service.position,
        images=_seen(services, prompt),  # now: whoever runs it lets go of the pixels
    )


def _seen(services: Services, prompt: PromptInput) -> list[SeenImage]:
    cell = services.checkpoint.processor.preprocessor.cell
    shapes = [image.pixels.shape for image in prompt.images]  # [3, H, W]
    grids = [Grid(height // cell, width // cell, cell) for _, height, width in shapes]
    return [
        SeenImage(
            width=grid.resized[1],
            height=grid.resized[0],
            columns=grid.columns,
            rows=grid.rows,
            num_tokens=grid.num_tokens,
        )
        for grid in grids
    ]
