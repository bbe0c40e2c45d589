"""One question answered several times under labels of the caller's: for the sweep and the blind
test. Its image is encoded once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vlm_dlm.engine.base import ModeInfo
from vlm_dlm.errors import ImageError
from vlm_dlm.events import GenerationEvent
from vlm_dlm.preflight import mode_params
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.comparison import Comparison, Judge
from vlm_dlm_app.answering.intake import Ask, fitted, prepare, ticket
from vlm_dlm_app.answering.tracking import preparing, tracked
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.runs import Visitor, checked
from vlm_dlm_app.schemas.generate import Options, Question
from vlm_dlm_app.state import Services

# What the page sends in place of a file that its browser could not read.
UNREADABLE = "unreadable"
# Stands before a Python function: the picture crosses as text, never as a file.
WITH_IMAGE = "async (image, ...rest) => [await vlmDlm.visitor.image(), ...rest]"


def check_readable(image: str) -> None:
    """Raises ImageError for a file that the visitor's browser could not read."""
    if image == UNREADABLE:
        raise ImageError("the image could not be read; choose another one in the Compare view")


def question_of(services: Services, image: str, prompt: str, max_tokens: int) -> Question:
    """As the Compare view has it; 0 tokens are as many as fit. Raises ApiError or ImageError."""
    check_readable(image)
    if not prompt.strip():
        raise ApiError(400, "bad_input", "write a question in the Compare view first")
    most = min(max_tokens, services.settings.max_tokens_limit)
    options = Options(max_tokens=most or None)
    return checked(Question, prompt=prompt, images=[image] if image else [], options=options)


def own_params(info: ModeInfo, threshold: float, block_length: float) -> Any:
    """A mode's Params with the settings of the Compare view, of which each mode takes those that
    it has; 0 is what suits the mode. Raises ModeError for a value that it cannot run."""
    given = {"threshold": threshold or None, "block_length": int(block_length) or None}
    has = {name: v for name, v in given.items() if v is not None and name in info.options}
    return mode_params([info.name], has)[info.name]


async def begin_trial(
    services: Services,
    visitor: Visitor,
    ask: Ask,
    entries: Mapping[str, tuple[str, Any]],
) -> Comparison:
    """Prepares the prompt. entries: mode and its Params, by label, in the order in which they run.

    Raises ApiError or VlmDlmError.
    """
    async with preparing(services):
        prompt = await prepare(services, ask, visitor.client)
    ask = fitted(services, ask, prompt, dict(entries.values()))
    last = list(entries)[-1]
    tickets = {
        label: ticket(ask, prompt, visitor.client, mode, params, keep_prompt=label != last)
        for label, (mode, params) in entries.items()
    }

    def generate(own: Ticket, is_first: bool) -> AsyncGenerator[GenerationEvent, None]:
        # A later one counts from when it lines up: what it waited for was not the queue.
        arrived_s = ask.arrived_s if is_first else None
        return tracked(
            services, own, visitor.request_id, arrived_s=arrived_s, is_patient=not is_first
        )

    return Comparison(generate, tickets)


def judge_of(services: Services, comparison: Comparison) -> Judge:
    """What came of it."""
    tokenizer = services.checkpoint.processor.tokenizer
    return Judge(
        comparison.runs,
        lambda token_id: tokenizer.decode([token_id], skip_special=False),
        services.runs_on,
    )
