"""The page's own interface for programs: named endpoints for `gradio_client`, which
`tools.py` offers to MCP where that is switched on. Names, parameters and results are stable.

Each is a plain way to what the HTTP interface does, with the same limits, queue and figures. Images
are text: data URIs, or names of uploaded ones.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# Annotations are read by Gradio as they are, so they must not be postponed.

import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

import gradio as gr
from gradio.events import api
from pydantic import ValidationError
from starlette.requests import Request

from vlm_dlm.decoding import find_mode
from vlm_dlm_app.answering.chat_request import chat_ask
from vlm_dlm_app.answering.chat_run import ChatRun
from vlm_dlm_app.answering.compare_run import CompareRun, params_of
from vlm_dlm_app.answering.generate_run import GenerateRun
from vlm_dlm_app.answering.image_sources import Source
from vlm_dlm_app.answering.intake import Ask, ask_of
from vlm_dlm_app.answering.modes import mode_options, offered_names, resolve_mode
from vlm_dlm_app.http.disconnect import while_connected
from vlm_dlm_app.http.held_bytes import Hold
from vlm_dlm_app.http.parsing import SMALL_BYTES
from vlm_dlm_app.page import sweeping
from vlm_dlm_app.page.chatting import modes_of
from vlm_dlm_app.page.options import naming_options
from vlm_dlm_app.page.runs import Runs, Visitor, checked, invalid, told, visitor_of
from vlm_dlm_app.page.uploads import UploadedFile, Uploads
from vlm_dlm_app.routes.models import mode_detail
from vlm_dlm_app.schemas.chat import ChatRequest
from vlm_dlm_app.schemas.compare import CompareBody
from vlm_dlm_app.schemas.generate import GenerateBody, Question

if TYPE_CHECKING:
    from vlm_dlm_app.state import Services

LARGE = SMALL_BYTES + 1  # for work that is never done on the loop
NAMES = ("modes", "generate", "compare", "chat", "sweep", "report")


def add(services: "Services", runs: Runs, uploads: Uploads) -> None:
    """Register all endpoints."""
    calls = Endpoints(services, runs, uploads)
    for name in NAMES:
        api(getattr(calls, name), api_name=name)


class Endpoints:
    """One method per endpoint; its words are the endpoint's documentation."""

    def __init__(self, services: "Services", runs: Runs, uploads: Uploads) -> None:
        self._services = services
        self._runs = runs
        self._uploads = uploads

    @naming_options
    async def modes(self) -> list[dict[str, Any]]:
        """The decoding modes of the loaded model.

        Returns:
            One object per mode: name, title, is_lossless (greedy answers equal those of `ar`
            in this server's number format), options (which of {options} it takes).
        """
        return [mode_detail(self._services, info).model_dump() for info in modes_of(self._services)]

    @naming_options
    async def generate(
        self,
        prompt: str,
        image: str = "",
        mode: str = "",
        options: dict[str, Any] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer a question about an image in one mode.

        Args:
            prompt: the question.
            image: the image as a data URI (data:image/png;base64,...); empty for none. Never the
                path of a file.
            mode: a mode's name; empty for {default_mode}.
            options: max_tokens, temperature, top_p, seed, stop, {options}, as /v1/generate takes
                them.

        Returns:
            The reply of POST /v1/generate: text, finish_reason, usage, timings, metrics.
        """

        async def work(visitor: Visitor) -> bytes:
            values = {"prompt": prompt, "images": _images(image), "mode": mode or None}
            body = checked(GenerateBody, **values, options=options or {})
            name = resolve_mode(self._services, None, body.mode)
            params = mode_options(body.options, name)[name]
            with self._read_later(ask_of(self._services, body, ()), visitor) as ask:
                client, request_id = visitor.client, visitor.request_id
                run = GenerateRun(self._services, ask, name, params, client, request_id)
                return await run.whole()

        return json.loads(await self._answered(request, work))

    async def compare(
        self,
        prompt: str,
        image: str = "",
        modes: list[str] | None = None,
        options: dict[str, Any] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer one question in several modes and say how the answers differ.

        Args:
            prompt: the question.
            image: the image as a data URI; empty for none. Never the path of a file.
            modes: names of modes, in the order in which they run; all of them without.
            options: as for generate; each mode takes those that it has.

        Returns:
            The reply of POST /v1/compare: results (one per mode) and summary.
        """

        async def work(visitor: Visitor) -> bytes:
            values = {"prompt": prompt, "images": _images(image), "modes": modes}
            body = checked(CompareBody, **values, options=options or {})
            params = params_of(self._services, body)
            with self._read_later(ask_of(self._services, body, ()), visitor) as ask:
                run = CompareRun(self._services, ask, params, visitor.client, visitor.request_id)
                return await run.whole()

        return json.loads(await self._answered(request, work))

    @naming_options
    async def chat(
        self,
        messages: list[dict[str, Any]],
        mode: str = "",
        options: dict[str, Any] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer the last message of a conversation.

        Args:
            messages: as OpenAI's API takes them: role and content; content is text, or parts of
                type text and image_url, whose url is a data URI.
            mode: a mode's name; empty for {default_mode}.
            options: as for generate.

        Returns:
            The reply of POST /v1/chat/completions.
        """

        async def work(visitor: Visitor) -> bytes:
            given = {**(options or {}), "messages": messages, "generation_mode": mode or None}
            asked = chat_ask(self._services, checked(ChatRequest, **given))
            with self._read_later(asked.ask, visitor) as ask:
                asked = replace(asked, ask=ask)
                run = ChatRun(self._services, asked, visitor.client, visitor.request_id)
                return await run.whole()

        return json.loads(await self._answered(request, work))

    @naming_options
    async def sweep(
        self,
        prompt: str,
        image: str = "",
        mode: str = "",
        thresholds: list[float] | None = None,
        block_lengths: list[int] | None = None,
        max_tokens: int = 0,
        axes: dict[str, list[Any]] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer one question once per combination of {swept}.

        Args:
            prompt: the question.
            image: the image as a data URI; empty for none. Never the path of a file.
            mode: a mode with at least one of these options; empty for the first that has.
            thresholds: by default {first[threshold]}; ignored by a mode without a threshold.
            block_lengths: by default {first[block_length]}; ignored by a mode without a block
                length.
            max_tokens: of each answer; 0 takes what fits.
            axes: values of any option by its name, as in {{"block_length": [4, 8]}}; ignored where
                the mode lacks it. Values that the mode cannot do are left out, unless it can do
                none of an option.

        Returns:
            points ({axes}, tokens_per_second, tokens_per_forward, num_tokens,
            agreement: share of leading tokens equal to those of `ar`; a speed is null where the
            answer is too short to measure), best (the fastest that agrees to at least
            least_agreement), reference (the speed of `ar`) and left_out (a
            sentence about values that the mode cannot do).
        """

        async def work(visitor: Visitor) -> dict[str, Any]:
            options = {"max_tokens": max_tokens or None}
            question = checked(Question, prompt=prompt, images=_images(image), options=options)
            own = {"threshold": thresholds, "block_length": block_lengths}
            values = sweeping.axes_of(own, axes or {})
            wanted = mode or sweeping.sweepable(self._services)[0].name
            name = find_mode(wanted, offered_names(self._services)).name
            grid = sweeping.grid_of(self._services, name, values)
            note = sweeping.left_out(self._services, name, values)
            with self._read_later(ask_of(self._services, question, ()), visitor) as ask:
                steps = sweeping.sweep(self._services, visitor, ask, name, grid)
                return sweeping.as_json(await _last(steps), name, note)

        return await self._answered(request, work)

    async def report(
        self, record: dict[str, Any], image: str = "", request: gr.Request | None = None
    ) -> str:
        """A comparison as one HTML file that opens offline, replay included.

        Args:
            record: a comparison in the format vlm-dlm.comparison/1, as the page gives it away.
            image: the picture to put into it, as a data URI; empty leaves it out. Take metadata
                out before.

        Returns:
            The file's text.
        """

        async def work(visitor: Visitor) -> str:
            from vlm_dlm_app.page.report import build_report

            def build() -> str:
                return build_report(record, self._uploads.in_text(image or "") or None)

            try:
                with self._counted([self._uploads.named(image)], visitor):
                    return await self._services.worker.run(visitor.client, LARGE, build)
            except ValidationError as error:
                raise invalid(error) from None

        return await self._answered(request, work)

    @contextmanager
    def _read_later(self, ask: Ask, visitor: Visitor) -> Generator[Ask]:
        """With uploaded pictures in the place of their names. Raises ApiError or QueueFullError."""
        images = tuple(self._uploads.named(image) for image in ask.images)
        with self._counted(images, visitor):
            yield replace(ask, images=images)

    @contextmanager
    def _counted(self, images: Iterable[Source], visitor: Visitor) -> Generator[None]:
        """The right to have these files in memory, each as often as it is named. Raises
        QueueFullError."""
        hold = Hold(self._services.held, visitor.client)
        files = (image for image in images if isinstance(image, UploadedFile))
        try:
            hold.grow_to(sum(file.num_bytes for file in files))
            yield
        finally:
            hold.let_go()

    async def _answered(
        self, request: gr.Request | None, work: Callable[[Visitor], Coroutine[Any, Any, Any]]
    ) -> Any:
        """What `work` gives; it ends when its client leaves. Raises gr.Error, in one sentence."""
        try:
            visitor = visitor_of(request)
            running = self._runs.whole(visitor, work(visitor))
            # Whoever has no session stays connected until there is an answer.
            return await (while_connected(request, running) if _is_tool(request) else running)
        except Exception as error:
            raise told(error) from None


def _is_tool(request: object) -> TypeGuard[Request]:
    """Whether it is MCP's own request, which belongs to no session."""
    return isinstance(request, Request)


def _images(image: str) -> list[str]:
    return [image] if image else []


async def _last(steps: AsyncGenerator[sweeping.Progress]) -> sweeping.Progress:
    """How it ended."""
    found: sweeping.Progress | None = None
    async with aclosing(steps):
        async for step in steps:
            found = step
    assert found is not None, "a sweep says at least that it begins"
    return found
