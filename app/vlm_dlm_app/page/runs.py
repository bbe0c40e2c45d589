"""What visitors have running: ended by their Stop button, when they leave, and at the server's end.

A visitor is one tab, or one client program: Gradio's session. Each ends their own runs alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar
from uuid import uuid4

import gradio as gr
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from vlm_dlm.errors import UnavailableError
from vlm_dlm_app.http.disconnect import ended
from vlm_dlm_app.http.errors import INTERNAL_MESSAGE, ApiError, error_body, to_api_error
from vlm_dlm_app.http.lifecycle import DRAINING
from vlm_dlm_app.http.validation import place_of, sentence_of
from vlm_dlm_app.page.leaving import Followers
from vlm_dlm_app.state import Services

logger = logging.getLogger(__name__)
T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)
# Between two updates of a page. What the engine says faster than that is joined.
UPDATE_S = 0.1
QUEUED_PATHS = ("/queue/join", "/call/")
FOLLOW_S = 10.0  # for a stream to begin
STOPPED = "the run was stopped"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    session: their tab.
    client: as for fair turns.
    request_id: for the log.
    has_stream: whether they are told what happens by a stream of their own, which breaks off when
        they leave.
    """

    session: str
    client: str
    request_id: str
    has_stream: bool = False


def visitor_of(request: gr.Request | Request | None) -> Visitor:
    """The names that the middleware left on the HTTP request; MCP's tools get that as it is."""
    http = request.request if isinstance(request, gr.Request) else request
    state: dict[str, Any] = {} if http is None else http.scope["state"]
    client, request_id = state.get("client"), state.get("request_id")
    if client is None:
        raise ApiError("invalid_api_key", "no API key was given")
    session = request.session_hash if isinstance(request, gr.Request) else None
    if session is None or http is None:
        return Visitor(uuid4().hex, client, str(request_id))
    has_stream = any(part in http.url.path for part in QUEUED_PATHS)
    return Visitor(session, client, str(request_id), has_stream)


@dataclass(slots=True, eq=False)
class Run:
    """Something that works for a visitor.

    place: the view it was started from.
    """

    place: str
    task: asyncio.Task[Any]
    is_stopped: bool = False

    def stop(self) -> None:
        """End it; what it has on the engine ends with it."""
        self.is_stopped = True
        self.task.cancel()


@dataclass(slots=True)
class _Latest(Generic[T]):
    """The newest value of a run, and whether anybody has seen it."""

    value: T | None = None
    is_new: bool = False


class Runs:
    """All that runs for the page, by visitor."""

    def __init__(self, services: Services, followers: Followers) -> None:
        followers.on_left = self.leave
        self._followers = followers
        self._services = services
        self._open: dict[str, set[Run]] = {}

    async def follow(
        self, visitor: Visitor, place: str, source: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """Values of `source`, the newest about ten times a second; the last one always.

        Ends early, without an error, when the run is stopped. One per visitor and place. Raises
        ApiError or VlmDlmError.
        """
        latest, news = _Latest[T](), asyncio.Event()

        async def read() -> None:
            async with aclosing(source):
                async for value in source:
                    latest.value, latest.is_new = value, True
                    news.set()

        self._check_free(visitor, place)
        async with self._running(visitor, place, read()) as run:
            while True:
                await _first_of(run.task, news)
                news.clear()
                is_over = run.task.done()
                if latest.is_new and latest.value is not None:
                    latest.is_new = False
                    yield latest.value
                if is_over:
                    break
                await asyncio.wait({run.task}, timeout=UPDATE_S)
            if not run.is_stopped:
                run.task.result()

    async def whole(self, visitor: Visitor, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives. Raises ApiError or VlmDlmError, also when it is stopped."""
        async with self._running(visitor, "", work) as run:
            await asyncio.wait({run.task})
            if run.is_stopped:
                raise ApiError("stopped", STOPPED)
            return run.task.result()

    def stop(self, visitor: Visitor, place: str) -> None:
        """End what one view has running for the visitor."""
        for run in tuple(self._open.get(visitor.session, ())):
            if run.place == place:
                run.stop()

    def leave(self, session: str) -> None:
        """The visitor's tab was closed, or their program ended."""
        for run in tuple(self._open.get(session, ())):
            run.stop()

    def _check_free(self, visitor: Visitor, place: str) -> None:
        if any(run.place == place for run in self._open.get(visitor.session, ())):
            raise ApiError("busy", "an answer is still being written; press Stop first")

    @asynccontextmanager
    async def _running(
        self, visitor: Visitor, place: str, work: Coroutine[Any, Any, Any]
    ) -> AsyncGenerator[Run]:
        """A run that has always ended on the way out."""
        run = Run(place, asyncio.create_task(self._opened(work)))
        self._open.setdefault(visitor.session, set()).add(run)
        watch = self._watch(visitor, run)
        try:
            yield run
        finally:
            if watch is not None:
                watch.cancel()
            await ended(run.task)
            runs = self._open[visitor.session]
            runs.discard(run)
            if not runs:
                del self._open[visitor.session]

    def _watch(self, visitor: Visitor, run: Run) -> asyncio.TimerHandle | None:
        """Ends a run that nobody follows: who left before their stream began is never missed."""
        if not visitor.has_stream:
            return None

        def check() -> None:
            if not self._followers.has(visitor.session):
                run.stop()

        return asyncio.get_running_loop().call_later(FOLLOW_S, check)

    async def _opened(self, work: Coroutine[Any, Any, T]) -> T:
        """Work that the server waits for before it ends, and that does not begin after that."""
        lifecycle = self._services.lifecycle
        try:
            if lifecycle.is_draining:
                self._services.metrics.count_refusal(UnavailableError.code)
                raise UnavailableError(DRAINING, lifecycle.retry_after_s)
            with lifecycle.request():
                return await work
        finally:
            work.close()


async def _first_of(task: asyncio.Task[Any], news: asyncio.Event) -> None:
    """Return once there is news or the task is over."""
    waiting = asyncio.create_task(news.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def checked(model: type[ModelT], **values: Any) -> ModelT:
    """A body like those of the HTTP interface. Raises ApiError naming the first fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> ApiError:
    """Its first fault as one of ours."""
    first = error.errors(include_url=False)[0]
    name = place_of(first)
    message = f"{name or 'the request'} {sentence_of(first)}"
    return ApiError("invalid_value", message, name)


def sentence(error: BaseException) -> str:
    """What a person can act on. Of unknown errors nothing is told; they are logged."""
    answer = to_api_error(error)
    if answer.message == INTERNAL_MESSAGE:
        logger.error("a run of the page failed", exc_info=error)
    text = str(error_body(answer)["error"]["message"])
    text = text[:1].upper() + text[1:]
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    if answer.retry_after_s is not None and "try again" not in text:
        text += f" Try again in {answer.retry_after_s} s."
    return text


def shown(error: BaseException) -> gr.Error:
    """For a view, which shows errors as HTML."""
    return gr.Error(escape(sentence(error)), title="That did not work", print_exception=False)


def told(error: BaseException) -> gr.Error:
    """For a client program."""
    return gr.Error(sentence(error), print_exception=False)
