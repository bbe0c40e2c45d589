"""A chat request, checked and turned into what is asked of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vlm_dlm_app.answering import thinking
from vlm_dlm_app.answering.conversation import conversation_of
from vlm_dlm_app.answering.intake import Ask, deadline_of, over_limit, priority_of, sampling_of
from vlm_dlm_app.answering.modes import mode_options, resolve_mode
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.chat import ChatRequest
from vlm_dlm_app.schemas.fields.nested import STREAM_OPTIONS
from vlm_dlm_app.schemas.fields.request import HARMLESS, REQUEST
from vlm_dlm_app.state import Services


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """A checked request.

    model: the id to answer with.
    num_answers: that is `n`.
    has_running_usage: every chunk has the usage so far.
    """

    ask: Ask
    mode: str
    params: Any
    model: str
    num_answers: int
    include_usage: bool
    include_drafts: bool
    has_running_usage: bool = False


def chat_ask(services: Services, chat: ChatRequest) -> ChatAsk:
    """What is asked, images still as they were sent.

    Raises ApiError or BadInputError.
    """
    REQUEST.check(chat.model_extra, harmless=HARMLESS)
    mode = resolve_mode(services, chat.model or None, chat.generation_mode or None)
    sampling = sampling_of(services, chat, _max_tokens(chat), chat.model_extra)
    sampling = replace(sampling, num_logprobs=_num_logprobs(chat))
    params = mode_options(chat, mode)[mode]
    num_answers = chat.n or 1
    if num_answers > services.settings.max_n:
        raise over_limit("n", f"is {num_answers}", services.settings.max_n, "max_n")
    options = chat.stream_options if chat.stream else None
    if options is not None:
        STREAM_OPTIONS.check(options.model_extra, "stream_options.")
    messages, sources = conversation_of(chat.messages)
    return ChatAsk(
        ask=Ask(
            messages,
            tuple(sources),
            sampling,
            priority_of(chat),
            deadline_of(services, chat),
            enable_thinking=bool(thinking.thinking_of(chat.model_extra)),
        ),
        mode=mode,
        params=params,
        model=chat.model or services.settings.model_name,
        num_answers=num_answers,
        include_usage=bool(options and options.include_usage),
        include_drafts=bool(options and options.include_drafts),
        has_running_usage=bool(
            options and options.include_usage and options.continuous_usage_stats
        ),
    )


def _num_logprobs(chat: ChatRequest) -> int | None:
    """How many of the best to tell beside each token; None for nothing. Raises ApiError."""
    if chat.top_logprobs and not chat.logprobs:
        raise ApiError("bad_input", "top_logprobs needs logprobs", "top_logprobs")
    return (chat.top_logprobs or 0) if chat.logprobs else None


def _max_tokens(chat: ChatRequest) -> int | None:
    """The limit by either name. Raises ApiError where both are given and differ."""
    newer, older = chat.max_completion_tokens, chat.max_tokens
    if newer is not None and older is not None and newer != older:
        message = f"max_completion_tokens is {newer} and max_tokens {older}; give one of them"
        raise ApiError("bad_input", message, "max_completion_tokens")
    return newer or older
