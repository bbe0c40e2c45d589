"""Answers as OpenAI's clients expect them: one completion, or chunks of one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import uuid4

from vlm_dlm import __version__
from vlm_dlm.events import Canvas, Committed, Failed, GenerationEvent, Started, Stats, is_terminal
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm.step import Token
from vlm_dlm_app.answering.answers import Answer, metrics_of, timings_of, usage_of
from vlm_dlm_app.answering.chat_request import ChatAsk
from vlm_dlm_app.answering.drafts import draft_of
from vlm_dlm_app.answering.intake import Ask, ticket
from vlm_dlm_app.answering.logprobs import logprobs_of
from vlm_dlm_app.answering.start import prepared
from vlm_dlm_app.answering.tracking import tracked
from vlm_dlm_app.http.fan_in import Group, merged
from vlm_dlm_app.http.streaming import DONE, rendered, sse
from vlm_dlm_app.schemas.chat import AnswerLogprobs, ChatAnswer, ChatChoice, ChatCompletion
from vlm_dlm_app.schemas.common import PromptTokensDetails, RequestMetrics, Usage
from vlm_dlm_app.state import Services

FINGERPRINT = f"vlm-dlm-{__version__}"
DRAFT_EVENT = "draft"
DRAFT_OBJECT = "vlm_dlm.draft"

Indexed = tuple[int, GenerationEvent]


class ChatRun:
    """One request on its way to its answers. client: whose it is. request_id: for the log."""

    def __init__(self, services: Services, chat: ChatAsk, client: str, request_id: str) -> None:
        self.services = services
        self.chat = chat
        self.client = client
        self.request_id = request_id
        self.id = f"chatcmpl-{uuid4().hex}"
        self.created = int(time.time())
        self.answers = [Answer() for _ in range(chat.num_answers)]
        self._started: Started | None = None

    async def whole(self) -> bytes:
        """The completion as JSON. Raises ApiError or VlmDlmError."""
        async with aclosing(await self._events()) as events:
            async for index, event in events:
                self.answers[index].add(event)
                error = self.answers[index].error
                if error is not None:
                    raise error  # nobody needs the others then
        stats = [answer.finished() for answer in self.answers]
        several = len(stats) > 1
        reply = ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.chat.model,
            choices=[
                ChatChoice(
                    index=index,
                    message=ChatAnswer(content=answer.text),
                    finish_reason="length" if answer.finish_reason == "length" else "stop",
                    logprobs=self._logprobs(answer.tokens),
                    timings=timings_of(stats[index]) if several else None,
                    metrics=self._metrics(answer) if several else None,
                )
                for index, answer in enumerate(self.answers)
            ],
            usage=usage_of(stats),
            timings=timings_of(stats[0]),
            metrics=self._metrics(self.answers[0]),
            system_fingerprint=FINGERPRINT,
        )
        return reply.model_dump_json().encode()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The completion as server-sent events, whose texts joined are that of `whole`.

        Raises ApiError or VlmDlmError at any time; what is refused is raised before the first one.
        """
        chunks = rendered(await self._events(), lambda indexed: self._tell(*indexed))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
        stats = [answer.finished() for answer in self.answers]
        if self.chat.include_usage:
            yield sse(self._usage(stats))
        yield DONE

    async def _events(self) -> AsyncGenerator[Indexed, None]:
        """Prepares the prompt, once for all answers, and lines up."""
        ask, mode, num = self.chat.ask, self.chat.mode, self.chat.num_answers
        ask, prompt = await prepared(self.services, ask, self.client, {mode: self.chat.params})
        tickets = [
            ticket(
                ask,
                prompt,
                self.client,
                mode,
                self.chat.params,
                seed_offset=index,
                keep_prompt=num > 1 and index == 0,
            )
            for index in range(num)
        ]
        return choices(self.services, ask, tickets, self.request_id)

    def _tell(self, index: int, event: GenerationEvent) -> Iterator[bytes]:
        """What an event means to whoever follows the stream. index: of the answer."""
        if isinstance(event, Canvas):
            if self.chat.include_drafts:
                yield sse(self._draft(index, event), DRAFT_EVENT)
            return
        answer = self.answers[index]
        text = answer.add(event)
        logprobs = self._logprobs(event.tokens) if isinstance(event, Committed) else None
        if isinstance(event, Started):
            self._started = self._started or event
            yield sse(self._delta(index, {"role": "assistant", "content": ""}))
        if text or (logprobs and logprobs.content):
            yield sse(self._delta(index, {"content": text}, logprobs=logprobs))
        if is_terminal(event):
            yield sse(self._end(index, answer))

    def _chunk(self, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        chunk: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.chat.model,
            "system_fingerprint": FINGERPRINT,
            "choices": entries,
        }
        if self.chat.include_usage:
            chunk["usage"] = self._usage_so_far() if self.chat.has_running_usage else None
        return chunk

    def _usage_so_far(self) -> dict[str, Any] | None:
        """Of all answers. What was cached is known at the end alone."""
        if self._started is None:
            return None
        num_prompt = self._started.num_prompt_tokens
        num_tokens = sum(len(answer.token_ids) for answer in self.answers)
        details = PromptTokensDetails(cached_tokens=0, image_tokens=self._started.num_image_tokens)
        return Usage(
            prompt_tokens=num_prompt,
            completion_tokens=num_tokens,
            total_tokens=num_prompt + num_tokens,
            prompt_tokens_details=details,
        ).model_dump()

    def _delta(
        self,
        index: int,
        delta: dict[str, str],
        reason: str | None = None,
        logprobs: AnswerLogprobs | None = None,
    ) -> dict[str, Any]:
        told = None if logprobs is None else logprobs.model_dump()
        entry = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": told}
        return self._chunk([entry])

    def _logprobs(self, tokens: Sequence[Token]) -> AnswerLogprobs | None:
        """None unless they were asked for."""
        sampling = self.chat.ask.sampling
        if sampling.num_logprobs is None:
            return None
        tokenizer = self.services.checkpoint.processor.tokenizer
        return logprobs_of(tokenizer, tokens, skip_special=sampling.skip_special_tokens)

    def _end(self, index: int, answer: Answer) -> dict[str, Any]:
        """The last chunk of one answer, with its figures. Raises ApiError if it is not whole."""
        return self._delta(index, {}, answer.finish_reason) | self._figures(answer)

    def _usage(self, stats: Sequence[Stats]) -> dict[str, Any]:
        """The chunk of `include_usage`: that of all answers, and the figures of the first."""
        usage = {"usage": usage_of(stats).model_dump()}
        return self._chunk([]) | usage | self._figures(self.answers[0])

    def _figures(self, answer: Answer) -> dict[str, Any]:
        return {
            "timings": timings_of(answer.finished()).model_dump(),
            "metrics": self._metrics(answer).model_dump(),
        }

    def _metrics(self, answer: Answer) -> RequestMetrics:
        services, stats = self.services, answer.finished()
        mode, sentence_s = self.chat.mode, answer.first_sentence_s
        return metrics_of(stats, mode, *services.runs_on(mode), sentence_s)

    def _draft(self, index: int, canvas: Canvas) -> dict[str, Any]:
        """A block that is not final yet. index: of the answer that it belongs to."""
        tokenizer = self.services.checkpoint.processor.tokenizer
        draft = {"index": index, **draft_of(tokenizer, canvas)}
        return self._chunk([]) | {"object": DRAFT_OBJECT, "draft": draft}


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
