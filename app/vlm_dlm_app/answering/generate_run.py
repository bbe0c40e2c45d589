"""One request for one answer: its reply as a whole and as events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from vlm_dlm.events import Canvas, GenerationEvent, Started
from vlm_dlm_app.answering.answers import Answer, metrics_of, timings_of, usage_of
from vlm_dlm_app.answering.drafts import DraftPace, draft_of
from vlm_dlm_app.answering.intake import Ask
from vlm_dlm_app.answering.modes import model_id
from vlm_dlm_app.answering.start import start_answer
from vlm_dlm_app.http.streaming import rendered, sse
from vlm_dlm_app.schemas.generate import GenerateReply
from vlm_dlm_app.state import Services


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
        return await start_answer(
            self.services, self.ask, self.mode, self.params, self.client, self.request_id
        )

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
