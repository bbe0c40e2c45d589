"""The chat view: several turns about the image, each answer in a mode of the visitor's choice.

The images of a conversation stay in the visitor's browser, which sends them along with every
question; the server keeps the words, for this tab alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from vlm_dlm_app.answering.intake import DEFAULT_MAX_TOKENS
from vlm_dlm_app.answering.modes import default_mode
from vlm_dlm_app.page import image_line
from vlm_dlm_app.page.chatting import (
    STOPPED,
    Settings,
    Turn,
    answer,
    images_of,
    modes_of,
    next_turn,
)
from vlm_dlm_app.page.options import given_options, in_words
from vlm_dlm_app.page.runs import Runs, shown, visitor_of

if TYPE_CHECKING:
    from vlm_dlm_app.page.compare import CompareView
    from vlm_dlm_app.state import Services

PLACE = "chat"
INTRO = (
    "Ask about the image of the Compare view. Choose another image there at any time: your next "
    "question then comes with it, and earlier ones stay part of the conversation. "
    f"{in_words().capitalize()} are those of the Compare view."
)
EMBEDDED = (
    " The embedded model was taught single questions: what it answers to a second one is often "
    "wrong or empty."
)
# Stand before the Python functions; images cross as text, never as files.
_SEND = "async (images, ...rest) => [await vlmDlm.visitor.imagesWithNewest(), ...rest]"
_AGAIN = "(images, ...rest) => [vlmDlm.visitor.images(), ...rest]"
_CLEAR = "(...values) => { vlmDlm.visitor.forget(); return values; }"


def add(services: Services, compare: CompareView, runs: Runs) -> None:
    """Fill the current tab."""
    view = _View(services)
    talk = _Talk(services, runs)
    outputs = [view.turns, view.chatbot, view.question, view.stop]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    settings = [view.mode, view.max_tokens, *compare.options]
    inputs = [view.images, view.turns, view.question, *settings]
    for start in (view.send.click, view.question.submit):
        start(talk.ask, inputs, outputs, js=_SEND, **private)
    view.again.click(talk.again, inputs, outputs, js=_AGAIN, **private)
    view.stop.click(talk.stop, None, None, **private)
    view.clear.click(talk.clear, None, outputs, js=_CLEAR, **private)


class _View:
    """The parts on the screen."""

    def __init__(self, services: Services) -> None:
        modes = [(info.title, info.name) for info in modes_of(services)]
        gr.Markdown(INTRO + (EMBEDDED if services.settings.model is None else ""))
        image_line.add("chat")
        self.chatbot = gr.Chatbot(
            label="Conversation",
            height=420,
            render_markdown=False,
            sanitize_html=True,
            feedback_options=None,
            buttons=["copy"],
            latex_delimiters=[],
            allow_file_downloads=False,
            placeholder="Nothing was said yet.",
            elem_id="chat",
        )
        with gr.Row(equal_height=True):
            self.question = gr.Textbox(
                label="Question",
                lines=1,
                max_lines=6,
                scale=4,
                min_width=300,
                elem_id="chat-question",
            )
            self.mode = gr.Dropdown(
                modes,
                value=default_mode(services),
                label="Mode",
                scale=2,
                min_width=240,
                elem_id="chat-mode",
            )
        with gr.Row():
            self.send = gr.Button("Send", variant="primary", elem_id="chat-send")
            self.stop = gr.Button("Stop", interactive=False, elem_id="chat-stop")
            self.again = gr.Button("Answer again in this mode", elem_id="chat-again")
            self.clear = gr.Button("New conversation", elem_id="chat-clear")
        limit = min(1024, services.settings.max_tokens_limit)
        with gr.Accordion("Settings", open=False):
            self.max_tokens = gr.Slider(
                1, limit, min(DEFAULT_MAX_TOKENS, limit), step=1, label="Most tokens"
            )
        self.images = gr.Textbox(visible=False)
        self.turns = gr.State([])


Box = str | dict[str, Any]  # what the box of the question shows from now on
KEPT: dict[str, Any] = {"__type__": "update"}  # as it is
Update = tuple[list[Turn], list[dict[str, str]], Box, Any]


class _Talk:
    """What the buttons do."""

    def __init__(self, services: Services, runs: Runs) -> None:
        self._services = services
        self._runs = runs

    async def ask(
        self,
        images: str,
        turns: list[Turn],
        question: str,
        mode: str,
        max_tokens: float,
        request: gr.Request,
        *places: Any,
    ) -> AsyncGenerator[Update]:
        """One more turn. What could not be answered at all goes back to where it was typed."""
        try:
            found = await self._images(images, request)
            most = self._services.settings.max_prompt_chars
            asked = [*turns, next_turn(turns, question, len(found), most)]
        except Exception as error:
            raise shown(error) from None
        settings = Settings(mode, int(max_tokens), given_options(places))
        typed = turns, question
        async for update in self._answer(asked, typed, "", found, settings, request):
            yield update

    async def again(
        self,
        images: str,
        turns: list[Turn],
        question: str,
        mode: str,
        max_tokens: float,
        request: gr.Request,
        *places: Any,
    ) -> AsyncGenerator[Update]:
        """The last question once more; its old answer is kept until there is a new one."""
        if not turns:
            raise gr.Error("Ask something first.", title="Nothing yet", print_exception=False)
        try:
            found = await self._images(images, request)
        except Exception as error:
            raise shown(error) from None
        settings = Settings(mode, int(max_tokens), given_options(places))
        typed = turns, KEPT
        async for update in self._answer(turns, typed, KEPT, found, settings, request):
            yield update

    async def _images(self, text: str, request: gr.Request) -> list[str]:
        client = visitor_of(request).client
        return await self._services.worker.run(client, len(text), lambda: images_of(text))

    async def _answer(
        self,
        asked: list[Turn],
        before: tuple[list[Turn], Box],
        box: Box,
        images: list[str],
        settings: Settings,
        request: gr.Request,
    ) -> AsyncGenerator[Update]:
        """asked: with the turn to be answered at its end. before: turns and box to go back to if
        no word comes. box: for the first update; from then on what is typed there stays."""
        earlier, last = asked[:-1], asked[-1]
        now = replace(last, answer="")
        try:
            visitor = visitor_of(request)
            source = answer(self._services, visitor, asked, images, settings)
            is_done = False
            async for now in self._runs.follow(visitor, PLACE, source):
                is_done = now.note not in ("waiting …", "writing …")
                yield _update([*earlier, now], box, is_running=not is_done)
                box = KEPT
            if not is_done:
                yield _cut(earlier, now, before, STOPPED)
        except Exception as error:
            yield _cut(earlier, now, before, "broke off")
            raise shown(error) from None

    async def stop(self, request: gr.Request) -> None:
        """End the answer that is being written."""
        self._runs.stop(visitor_of(request), PLACE)

    async def clear(self, request: gr.Request) -> Update:
        """Begin anew."""
        self._runs.stop(visitor_of(request), PLACE)
        return _update([], "")


def _cut(earlier: list[Turn], now: Turn, before: tuple[list[Turn], Box], why: str) -> Update:
    """The end of an answer that is not whole."""
    if not now.answer:
        return _update(*before)
    return _update([*earlier, replace(now, note=why)], KEPT)


def _update(turns: list[Turn], box: Box, is_running: bool = False) -> Update:
    return turns, messages_of(turns), box, gr.update(interactive=is_running)


def messages_of(turns: list[Turn]) -> list[dict[str, str]]:
    """As the chat shows them: an answer and its figures are two messages in one frame. Texts are
    shown as they are, never read as markup."""
    messages: list[dict[str, str]] = []
    for turn in turns:
        pictures = "".join(f"[image {number + 1}] " for number in turn.images)
        messages.append({"role": "user", "content": f"{pictures}{turn.question}"})
        for part in (turn.answer, turn.note):
            if part:
                messages.append({"role": "assistant", "content": part})
    return messages
