"""POST /v1/generate: images and a prompt in, an answer out."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from vlm_dlm.events import Canvas, GenerationEvent, Started
from vlm_dlm_app.answering.answers import Answer, metrics_of, timings_of, usage_of
from vlm_dlm_app.answering.drafts import DraftPace, draft_of
from vlm_dlm_app.answering.intake import (
    Ask,
    fitted,
    mode_options,
    model_id,
    prepare,
    resolve_mode,
    ticket,
)
from vlm_dlm_app.answering.question import ask_of
from vlm_dlm_app.answering.tracking import preparing, tracked
from vlm_dlm_app.http.auth import ClientDep
from vlm_dlm_app.http.bodies import FormFields, read_body, request_body
from vlm_dlm_app.http.disconnect import while_connected
from vlm_dlm_app.http.errors import error_responses
from vlm_dlm_app.http.idempotency import replayed_reply, replayed_stream
from vlm_dlm_app.http.streaming import EventStreamResponse, primed, rendered, sse
from vlm_dlm_app.schemas.generate import GenerateBody, GenerateReply
from vlm_dlm_app.state import Services, ServicesDep

router = APIRouter(tags=["generate"])
FIELDS = FormFields(
    texts=frozenset({"prompt", "system", "mode"}),
    flags=frozenset({"stream"}),
    objects=frozenset({"options"}),
)
_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": GenerateReply,
        "description": "The whole answer, or with `stream` its pieces as server-sent events",
        "content": {"text/event-stream": {}},
    },
    **error_responses(400, 401, 403, 408, 413, 415, 429, 500, 503),
}


@router.post("/v1/generate", responses=_REPLIES, openapi_extra=request_body(GenerateBody, FIELDS))
async def generate(request: Request, services: ServicesDep, client: ClientDep) -> Response:
    """Answer a prompt about images, sent as a form with files or as JSON with data URIs.

    With `stream` the events are `started`, `text` (its texts joined are the answer), `draft` (the
    block being written; only with `options.include_drafts`) and `result` (the whole reply).
    """
    received = await read_body(request, GenerateBody, FIELDS)
    body = received.body
    mode = resolve_mode(services, None, body.mode)
    run = GenerateRun(
        services,
        ask=ask_of(services, body, received.files),
        mode=mode,
        params=mode_options(body.options, mode)[mode],
        client=client,
        request_id=request.state.request_id,
        drafts=DraftPace.of(body.options),
    )
    shared = services.idempotency, request, client, received.digest
    if body.stream:
        chunks = await replayed_stream(*shared, run.chunks)
        return EventStreamResponse(await while_connected(request, primed(chunks)))
    reply = replayed_reply(*shared, run.whole)
    return Response(await while_connected(request, reply), media_type="application/json")


@dataclass(slots=True)
class GenerateRun:
    """One request on its way to its answer. request_id: of the HTTP request, for the log."""

    services: Services
    ask: Ask
    mode: str
    params: Any
    client: str
    request_id: str
    drafts: DraftPace = field(default_factory=DraftPace)
    id: str = field(default_factory=lambda: f"gen-{uuid4().hex}")
    answer: Answer = field(default_factory=Answer)

    async def whole(self) -> bytes:
        """The reply as JSON. Raises ApiError or VlmDlmError."""
        async with aclosing(await self._events()) as events:
            async for event in events:
                self.answer.add(event)
        return self._reply().model_dump_json().encode()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The reply as events. Raises ApiError or VlmDlmError at any time; what is refused is
        raised before the first chunk."""
        chunks = rendered(await self._events(), self._tell)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
        yield sse(self._reply().model_dump(), "result")

    async def _events(self) -> AsyncGenerator[GenerationEvent, None]:
        """Prepares the prompt and lines up."""
        async with preparing(self.services):
            prompt = await prepare(self.services, self.ask, self.client)
        ask = fitted(self.services, self.ask, prompt, {self.mode: self.params})
        own = ticket(ask, prompt, self.client, self.mode, self.params)
        return tracked(self.services, own, self.request_id, arrived_s=self.ask.arrived_s)

    def _tell(self, event: GenerationEvent) -> Iterator[bytes]:
        """What an event means to whoever follows the stream."""
        text = self.answer.add(event)
        if isinstance(event, Started):
            yield sse({"id": self.id, "model": self._model, "mode": self.mode}, "started")
        elif isinstance(event, Canvas) and self.drafts.is_due(self.mode, event.time_s):
            tokenizer = self.services.checkpoint.processor.tokenizer
            yield sse(draft_of(tokenizer, event), "draft")
        if text:
            yield sse({"text": text}, "text")

    @property
    def _model(self) -> str:
        return model_id(self.services, self.mode)

    def _reply(self) -> GenerateReply:
        """Raises ApiError if the answer is not whole."""
        stats = self.answer.finished()
        services = self.services
        return GenerateReply(
            id=self.id,
            created=int(time.time()),
            model=self._model,
            mode=self.mode,
            text=self.answer.text,
            finish_reason=self.answer.finish_reason or "stop",
            usage=usage_of([stats]),
            timings=timings_of(stats),
            metrics=metrics_of(
                stats, self.mode, *services.runs_on(self.mode), self.answer.first_sentence_s
            ),
        )
