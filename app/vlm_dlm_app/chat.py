"""A chat request, checked and turned into what is asked of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_dlm.processor.prompt import ImagePart, Message, Part, TextPart
from vlm_dlm_app import thinking
from vlm_dlm_app.errors import ApiError
from vlm_dlm_app.intake import (
    Ask,
    deadline_of,
    mode_options,
    over_limit,
    priority_of,
    resolve_mode,
    sampling_of,
)
from vlm_dlm_app.schemas.chat import ROLES, ChatMessage, ChatRequest, ContentPart
from vlm_dlm_app.state import Services

# Fields that OpenAI's clients send and that cannot change an answer of this server.
IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",  # means nothing without tools
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
# Fields that would change the answer -> values with which they do not. Null never does.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
MESSAGE_IGNORED = frozenset({"annotations", "reasoning", "reasoning_content"})
MESSAGE_NEUTRAL: dict[str, tuple[Any, ...]] = {"refusal": ("",), "tool_calls": ([],)}
MAX_NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """A checked request. model: the id to answer with. num_answers: that is `n`.
    has_running_usage: every chunk has the usage so far."""

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
    refuse_unsupported(chat.model_extra, IGNORED.union(thinking.FIELDS), NEUTRAL)
    mode = resolve_mode(services, chat.model, chat.generation_mode)
    sampling = sampling_of(services, chat, _max_tokens(chat))
    params = mode_options(chat, mode)[mode]
    num_answers = chat.n or 1
    if num_answers > services.settings.max_n:
        raise over_limit("n", f"is {num_answers}", services.settings.max_n)
    if chat.stream_options is not None and not chat.stream:
        message = "stream_options needs stream to be true"
        raise ApiError(400, "bad_input", message, "stream_options")
    if chat.stream_options is not None and chat.stream_options.include_obfuscation:
        field = "stream_options.include_obfuscation"
        raise ApiError(400, "unsupported_field", f"{field} is not supported here", field)
    messages, sources = conversation_of(chat.messages)
    options = chat.stream_options
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


def refuse_unsupported(
    extra: dict[str, Any] | None,
    ignored: frozenset[str],
    neutral: dict[str, tuple[Any, ...]],
    place: str = "",
) -> None:
    """Raise ApiError for the first field that this server does not know how to honour."""
    for name, value in (extra or {}).items():
        if value is None or name in ignored or value in neutral.get(name, ()):
            continue
        field = f"{place}{name[:MAX_NAME_CHARS]}"
        raise ApiError(400, "unsupported_field", f"{field} is not supported here", field)


def conversation_of(turns: Sequence[ChatMessage]) -> tuple[tuple[Message, ...], list[str]]:
    """The messages, and what stands for their images, in order. Raises ApiError."""
    sources: list[str] = []
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        place = f"messages.{number}."
        refuse_unsupported(turn.model_extra, MESSAGE_IGNORED, MESSAGE_NEUTRAL, place)
        if turn.role not in ROLES:
            message = f"{place}role must be one of {', '.join(ROLES)}"
            raise ApiError(400, "unsupported_role", message, f"{place}role")
        if turn.content is None and turn.role != "assistant":
            raise ApiError(400, "bad_input", f"{place}content is required", f"{place}content")
        parts = tuple(
            _part(part, f"{place}content.{index}", sources)
            for index, part in enumerate(turn.content or ())
        )
        if turn.role == "user" and not any(map(_says_something, parts)):
            raise ApiError(400, "bad_input", f"{place}content is empty", f"{place}content")
        role = "system" if turn.role == "developer" else turn.role
        messages.append(Message(role, parts))
    return tuple(messages), sources


def _part(part: ContentPart, place: str, sources: list[str]) -> Part:
    """Adds to `sources` what stands for the image, if it is one."""
    text, image = part.text, part.image_url
    if part.type not in ("text", "image_url"):
        message = f"{place}.type must be text or image_url; nothing else is read here"
        raise ApiError(400, "unsupported_content", message, f"{place}.type")
    own, other = (text, image) if part.type == "text" else (image, text)
    if own is None or other is not None:
        fault = f"has no {part.type}" if own is None else "has text and image_url"
        raise ApiError(400, "bad_input", f"{place} is of type {part.type} but {fault}", place)
    refuse_unsupported(part.model_extra, frozenset(), {}, f"{place}.")
    if image is None:
        return TextPart(text or "")
    refuse_unsupported(image.model_extra, frozenset(), {}, f"{place}.image_url.")
    sources.append(image.url)
    return ImagePart(len(sources) - 1)


def _says_something(part: Part) -> bool:
    return isinstance(part, ImagePart) or bool(part.text)


def _max_tokens(chat: ChatRequest) -> int | None:
    """The limit by either name. Raises ApiError where both are given and differ."""
    newer, older = chat.max_completion_tokens, chat.max_tokens
    if newer is not None and older is not None and newer != older:
        message = f"max_completion_tokens is {newer} and max_tokens {older}; give one of them"
        raise ApiError(400, "bad_input", message, "max_completion_tokens")
    return newer or older
