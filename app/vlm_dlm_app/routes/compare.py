"""POST /v1/compare: one prompt in several modes, its image encoded once."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from vlm_dlm.decoding import find_mode
from vlm_dlm.errors import ModeError
from vlm_dlm.events import GenerationEvent
from vlm_dlm.preflight import parse_modes
from vlm_dlm.processor.image import Grid
from vlm_dlm.request import PromptInput
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.compare_events import CompareEvents
from vlm_dlm_app.answering.comparison import Comparison, Judge
from vlm_dlm_app.answering.drafts import DraftPace
from vlm_dlm_app.answering.intake import (
    Ask,
    check_offered,
    fitted,
    given_options,
    mode_options,
    model_id,
    offered_modes,
    prepare,
    ticket,
)
from vlm_dlm_app.answering.question import ask_of
from vlm_dlm_app.answering.tracking import preparing, tracked
from vlm_dlm_app.http.auth import ClientDep
from vlm_dlm_app.http.bodies import FormFields, read_body, request_body
from vlm_dlm_app.http.disconnect import while_connected
from vlm_dlm_app.http.errors import ApiError, error_responses
from vlm_dlm_app.http.fan_in import Group
from vlm_dlm_app.http.idempotency import replayed_reply, replayed_stream
from vlm_dlm_app.http.streaming import EventStreamResponse, primed, rendered, sse
from vlm_dlm_app.schemas.compare import CompareBody, CompareReply, SeenImage
from vlm_dlm_app.state import Services, ServicesDep

router = APIRouter(tags=["compare"])
FIELDS = FormFields(
    texts=frozenset({"prompt", "system"}),
    flags=frozenset({"stream", "parallel"}),
    objects=frozenset({"options", "mode_options"}),
    lists=frozenset({"modes"}),
)
_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": CompareReply,
        "description": "All answers, or with `stream` their pieces as server-sent events",
        "content": {"text/event-stream": {}},
    },
    **error_responses(400, 401, 403, 408, 413, 415, 429, 500, 503),
}


@router.post("/v1/compare", responses=_REPLIES, openapi_extra=request_body(CompareBody, FIELDS))
async def compare(request: Request, services: ServicesDep, client: ClientDep) -> Response:
    """Answer one prompt in several modes, one after another, and say how they differ.

    With `stream` every event but the last names its mode: `started`, `text`, `draft` (only with
    `options.include_drafts`), `result`; then comes one `summary`. A mode that fails has a result
    with its `error`; only when all of them fail is the whole reply an error.
    """
    received = await read_body(request, CompareBody, FIELDS)
    body = received.body
    params = params_of(services, body)
    ask = ask_of(services, body, received.files)
    run = CompareRun(
        services,
        ask,
        params,
        client,
        request.state.request_id,
        is_parallel=body.parallel,
        drafts=DraftPace.of(body.options),
    )
    shared = services.idempotency, request, client, received.digest
    if body.stream:
        chunks = await replayed_stream(*shared, run.chunks, run.is_whole)
        return EventStreamResponse(await while_connected(request, primed(chunks)))
    reply = replayed_reply(*shared, run.whole, run.is_whole)
    return Response(await while_connected(request, reply), media_type="application/json")


def params_of(services: Services, body: CompareBody) -> dict[str, Any]:
    """Checked options per mode, in the order of the modes. Raises ApiError or ModeError."""
    offered = offered_modes(services)
    modes = parse_modes(body.modes, offered)
    check_offered(services, *modes)
    params = dict(mode_options(body.options, *modes))
    named: set[str] = set()
    for name, own in body.mode_options.items():
        mode = find_mode(name, offered).name
        if mode in named:
            message = f"mode_options names {mode} twice, by an alias"
            raise ApiError(400, ModeError.code, message, "mode_options")
        named.add(mode)
        if mode not in params:
            message = f"mode_options has {mode}, which is not among the modes"
            raise ApiError(400, ModeError.code, message, "mode_options")
        mode_options(own, mode)  # raises for an option that the mode lacks
        params[mode] = replace(params[mode], **given_options(own))
    return params


@dataclass(slots=True)
class CompareRun:
    """One request on its way to its answers. request_id: of the HTTP request, for the log.
    images: known once the prompt is prepared."""

    services: Services
    ask: Ask
    params: Mapping[str, Any]
    client: str
    request_id: str
    is_parallel: bool = False
    drafts: DraftPace = field(default_factory=DraftPace)
    images: list[SeenImage] = field(default_factory=list[SeenImage])
    id: str = field(default_factory=lambda: f"cmp-{uuid4().hex}")
    comparison: Comparison | None = None

    def is_whole(self) -> bool:
        """Whether no mode has failed. One that has may do better in another try."""
        return self.comparison is not None and self.comparison.is_whole

    async def whole(self) -> bytes:
        """The reply as JSON. Raises ApiError or VlmDlmError."""
        comparison = await self._comparison()
        async with aclosing(comparison.steps()) as steps:
            async for _ in steps:
                pass
        judge = self._judge(comparison)
        comparison.raise_if_all_failed()
        reply = CompareReply(
            id=self.id,
            created=int(time.time()),
            model=model_id(self.services),
            results=[judge.result(mode) for mode in comparison.runs],
            summary=judge.summary(comparison),
        )
        return reply.model_dump_json().encode()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The reply as events. Raises ApiError or VlmDlmError at any time; what is refused is
        raised before the first chunk."""
        comparison = await self._comparison()
        judge = self._judge(comparison)
        events = CompareEvents(self.services, judge, self.id, self.drafts)
        chunks = rendered(comparison.steps(), events.tell)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
        comparison.raise_if_all_failed()
        yield sse({"id": self.id, **judge.summary(comparison).model_dump()}, "summary")

    async def _comparison(self) -> Comparison:
        """Prepares the prompt, once for all modes."""
        ask, services = self.ask, self.services
        async with preparing(services):
            prompt = await prepare(services, ask, self.client)
        ask = fitted(services, ask, prompt, self.params)
        self.images = _seen(services, prompt)
        last = list(self.params)[-1]
        tickets = {
            mode: ticket(ask, prompt, self.client, mode, params, keep_prompt=mode != last)
            for mode, params in self.params.items()
        }
        group = Group()

        def generate(own: Ticket, is_first: bool) -> AsyncGenerator[GenerationEvent, None]:
            # A later mode counts from when it lines up: what it waited for was not the queue.
            arrived_s = ask.arrived_s if is_first else None
            return tracked(
                services,
                own,
                self.request_id,
                arrived_s=arrived_s,
                is_patient=not is_first,
                group=group,
            )

        self.comparison = Comparison(
            generate,
            tickets,
            is_parallel=self.is_parallel,
            deadline_s=ask.rest_s,
            group=group,
            position=services.service.position,
        )
        return self.comparison

    def _judge(self, comparison: Comparison) -> Judge:
        tokenizer = self.services.checkpoint.processor.tokenizer
        return Judge(
            comparison.runs,
            lambda token_id: tokenizer.decode([token_id], skip_special=False),
            self.services.runs_on,
            self.images,
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
