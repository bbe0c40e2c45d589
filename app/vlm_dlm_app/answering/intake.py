"""From what a client asks for to what the service takes: limits, images, tickets.

Order: what is refused by looking at the request alone, then whether there is room, and only then
work on images and text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any
from uuid import uuid4

from vlm_dlm.answer_room import DEFAULT_MAX_TOKENS, fit_answer
from vlm_dlm.decoding import find_mode
from vlm_dlm.errors import (
    BadInputError,
    ContextLengthError,
    DeadlineError,
    PromptError,
)
from vlm_dlm.preflight import check_num_images, conversation
from vlm_dlm.processor.prompt import Message, TextPart
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving.queue.fair_queue import Priority
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.image_sources import Source, fetch_place, image_contents
from vlm_dlm_app.answering.structure import check_structure, structure_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.common import AnswerOptions
from vlm_dlm_app.schemas.generate import Question
from vlm_dlm_app.state import Services


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked, whichever route it came by.

    images: files, contents of files, data URIs or http(s) URLs, in the order in which `messages`
        number them; nobody has looked at them yet.
    deadline_s: seconds for the whole answer, preparing it included, None for no limit.
    most_tokens: of an answer for which no max_tokens was asked, None for the default.
    prompt_field: of the request, where its text stood.
    arrived_s: when they began, on the monotonic clock.
    """

    messages: tuple[Message, ...]
    images: tuple[Source, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None
    enable_thinking: bool = False
    most_tokens: int | None = None
    prompt_field: str = "messages"
    arrived_s: float = field(default_factory=monotonic)

    @property
    def rest_s(self) -> float | None:
        """What is left of the deadline, at least 1 ms; None if there is none."""
        if self.deadline_s is None:
            return None
        return max(self.deadline_s - (monotonic() - self.arrived_s), 0.001)


def ask_of(services: Services, body: Question, files: Sequence[bytes]) -> Ask:
    """The question with its images: a form's files, or a JSON body's data URIs.

    Raises ApiError or BadInputError for what is over a limit.
    """
    options = body.options
    num_images = len(files) + len(body.images)
    sampling = sampling_of(services, options)
    if options.max_thinking_tokens is not None:
        if not options.enable_thinking:
            raise ApiError(
                "bad_input",
                "max_thinking_tokens needs enable_thinking",
                "options.max_thinking_tokens",
            )
        sampling = replace(sampling, max_thinking_tokens=options.max_thinking_tokens)
    return Ask(
        messages=conversation(body.prompt, num_images, body.system),
        images=(*files, *body.images),
        sampling=sampling,
        priority=priority_of(options),
        deadline_s=deadline_of(services, options),
        enable_thinking=options.enable_thinking,
        prompt_field="prompt",
    )


def fitted(services: Services, ask: Ask, prompt: PromptInput, params: Mapping[str, Any]) -> Ask:
    """With the max_tokens that the answer to this prompt really has: the same in all of several
    modes. params: of each mode.

    Raises ApiError where the context is too short, or min_tokens do not fit.
    """
    limit = min(DEFAULT_MAX_TOKENS, services.settings.max_tokens_limit)
    num_prompt, limit = len(prompt.token_ids), ask.most_tokens or limit
    fits: list[SamplingParams] = []
    for mode, chosen in params.items():
        engine = services.engine.capabilities_of(mode)
        num_slots, max_rows = engine.max_cache_tokens, find_mode(mode)().max_query_len(chosen)
        try:
            own = fit_answer(
                ask.sampling, num_prompt, engine.max_context, num_slots, max_rows, limit
            )
        except ContextLengthError as error:
            raise _too_long(ask, error) from None
        except BadInputError as error:
            raise ApiError(BadInputError.code, str(error), "min_tokens") from None
        fits.append(own)
    return replace(ask, sampling=min(fits, key=lambda sampling: sampling.max_tokens or 0))


async def prepare(services: Services, ask: Ask, client: str = "") -> PromptInput:
    """The prompt, with its images fetched, decoded and scaled.

    Raises ApiError or VlmDlmError: what is over a limit, then UnavailableError or QueueFullError
    where there is no room now for this client, in the queue or to fetch its images, before any of
    them is touched; then ImageError and PromptError, or DeadlineError.
    """
    _check_conversation(services, ask.messages)
    check_num_images(len(ask.images), services.settings.max_images, "max_images")
    services.service.check_room(client)
    try:
        async with asyncio.timeout(ask.rest_s):
            await check_structure(services, ask.sampling.structure)
            with fetch_place(services, ask.images, client):  # until nobody holds fetched files
                images = await image_contents(services, ask.images)
                return await services.preparer.prepare(
                    ask.messages, images, ask.sampling.max_tokens, ask.enable_thinking, client
                )
    except ContextLengthError as error:
        raise _too_long(ask, error) from None
    except TimeoutError:
        message = "the deadline passed while the request was being prepared"
        raise DeadlineError(message) from None


def _too_long(ask: Ask, error: ContextLengthError) -> ApiError:
    return ApiError(ContextLengthError.code, str(error), ask.prompt_field)


def ticket(
    ask: Ask,
    prompt: PromptInput,
    client: str,
    mode: str,
    params: Any,
    *,
    seed_offset: int = 0,
    keep_prompt: bool = False,
) -> Ticket:
    """One answer for the service, under an id of its own. seed_offset: for further answers to the
    same request, which must differ from the first."""
    sampling = ask.sampling
    if seed_offset and sampling.seed is not None:
        sampling = replace(sampling, seed=(sampling.seed + seed_offset) % 2**63)
    request = GenerationRequest(
        request_id=uuid4().hex,  # never the client's own, which may come twice
        prompt=prompt,
        mode=mode,
        params=params,
        sampling=sampling,
        keep_prompt=keep_prompt,
    )
    return Ticket(request, client, ask.priority, ask.rest_s)


def sampling_of(
    services: Services,
    options: AnswerOptions,
    max_tokens: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> SamplingParams:
    """How tokens are chosen: greedy, and as many as fit, unless the client says otherwise.

    max_tokens: in place of the one in `options`. extra: fields of the request that its schema does
    not have. Raises ApiError for what is over a limit.
    """
    limit, wanted = services.settings.max_tokens_limit, max_tokens or options.max_tokens
    for name, value in (("max_tokens", wanted), ("min_tokens", options.min_tokens)):
        if value is not None and value > limit:
            raise over_limit(name, f"is {value}", limit, "max_tokens_limit")
    return SamplingParams(
        temperature=0.0 if options.temperature is None else options.temperature,
        top_p=1.0 if options.top_p is None else options.top_p,
        seed=options.seed,
        max_tokens=wanted,
        stop=_stop_of(services, options.stop),
        top_k=max(options.top_k or 0, 0),
        min_p=options.min_p or 0.0,
        min_tokens=options.min_tokens or 0,
        ignore_eos=bool(options.ignore_eos),
        stop_token_ids=_stop_token_ids_of(services, options.stop_token_ids),
        skip_special_tokens=options.skip_special_tokens is not False,
        structure=structure_of(options, extra),
        presence_penalty=options.presence_penalty or 0.0,
        frequency_penalty=options.frequency_penalty or 0.0,
        repetition_penalty=options.repetition_penalty or 1.0,
        logit_bias=_logit_bias_of(services, options.logit_bias),
        bad_words=_bad_words_of(services, options.bad_words),
    )


def _logit_bias_of(
    services: Services, bias: Mapping[str, float] | None
) -> tuple[tuple[int, float], ...]:
    if not bias:
        return ()
    values = {int(token_id): value for token_id, value in bias.items()}
    _check_ids(services, "logit_bias", values)
    return tuple(sorted(values.items()))


def _bad_words_of(services: Services, words: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
    """Each as it is written at the beginning of a text, and after a blank."""
    if not words:
        return ()
    encode = services.checkpoint.processor.tokenizer.encode_text
    texts = [text for word in words for text in (word, f" {word.lstrip()}")]
    return tuple(sorted({tuple(encode(text)) for text in texts}))


def priority_of(options: AnswerOptions) -> Priority:
    """Interactive unless the client says otherwise."""
    return Priority.BATCH if options.priority == "batch" else Priority.INTERACTIVE


def deadline_of(services: Services, options: AnswerOptions) -> float:
    """Seconds for the whole answer: the client's, or the server's own."""
    return services.settings.deadline_s if options.deadline_s is None else options.deadline_s


def over_limit(param: str, found: str, limit: int, setting: str | None = None) -> ApiError:
    """A request beyond what this server allows. found: as in 'is 9000'. setting: of the limit."""
    named = "" if setting is None else f" ({setting})"
    return ApiError("over_limit", f"{param} {found}; the limit is {limit}{named}", param)


def _check_conversation(services: Services, messages: Sequence[Message]) -> None:
    """Raise PromptError for too many messages or too much text."""
    limits = services.settings
    if len(messages) > limits.max_messages:
        raise PromptError(
            f"{len(messages)} messages were given; "
            f"the limit is {limits.max_messages} (max_messages)"
        )
    parts = (part for message in messages for part in message.parts)
    num_chars = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    if num_chars > limits.max_prompt_chars:
        raise PromptError(
            f"the messages have {num_chars} characters; "
            f"the limit is {limits.max_prompt_chars} (max_prompt_chars)"
        )


def _stop_of(services: Services, stop: Sequence[str] | None) -> tuple[str, ...]:
    limits, texts = services.settings, tuple(stop or ())
    if len(texts) > limits.max_stop:
        raise over_limit("stop", f"has {len(texts)} strings", limits.max_stop, "max_stop")
    longest = max(map(len, texts), default=0)
    if longest > limits.max_stop_chars:
        found = f"has a string of {longest} characters"
        raise over_limit("stop", found, limits.max_stop_chars, "max_stop_chars")
    return texts


def _stop_token_ids_of(services: Services, token_ids: Sequence[int] | None) -> tuple[int, ...]:
    _check_ids(services, "stop_token_ids", token_ids or ())
    return tuple(token_ids or ())


def _check_ids(services: Services, name: str, token_ids: Iterable[int]) -> None:
    """Raises ApiError for one that the model does not have. name: of the field."""
    size = services.checkpoint.config.vocab_size
    unknown = next((token_id for token_id in token_ids if token_id >= size), None)
    if unknown is not None:
        message = f"{name} has {unknown}; this model's ids are 0 to {size - 1}"
        raise ApiError("bad_input", message, name)
