"""How long an answer may be: what was asked for, and what prompt and limits leave of it.

The one place that knows what prompt and answer may take of a context together, and of a cache.
"""

from __future__ import annotations

from dataclasses import replace

from vlm_dlm.errors import BadInputError, ContextLengthError
from vlm_dlm.request import SamplingParams

# Most that an answer gets whose length nobody asked for. Cache is set aside for all of it before
# the answer begins, so a larger one lets fewer answers run at once.
DEFAULT_MAX_TOKENS = 1024


def fit_answer(
    sampling: SamplingParams,
    num_prompt: int,
    max_context: int,
    num_slots: int | None = None,
    max_rows: int = 0,
    limit: int = DEFAULT_MAX_TOKENS,
) -> SamplingParams:
    """The same with the max_tokens that the answer to a prompt of so many tokens really has.

    What was asked for must fit into max_context; nothing asked for takes what is left, at most
    `limit`, or min_tokens if that is more. num_slots, max_rows: of the cache, None for no limit,
    and of the mode's widest plan. Raises ContextLengthError in the words that clients of
    OpenAI's API look for, and BadInputError where min_tokens do not fit.
    """
    room = max_context - num_prompt
    if room < 1:
        raise prompt_too_long(num_prompt, max_context)
    wanted = sampling.max_tokens
    if wanted is None:
        bounds = [room, max(limit, sampling.min_tokens)]
        if num_slots is not None:
            bounds.append(max(num_slots - cache_needed(num_prompt, 0, max_rows), 1))
        if sampling.min_tokens > min(bounds):
            raise BadInputError(
                f"min_tokens is {sampling.min_tokens}; the prompt of {num_prompt} tokens leaves "
                f"room for {min(bounds)}"
            )
        return replace(sampling, max_tokens=min(bounds))
    if wanted > room:
        raise ContextLengthError(
            f"This model's maximum context length is {max_context} tokens. However, you requested "
            f"{num_prompt + wanted} tokens ({num_prompt} in the messages, {wanted} in the "
            "completion). Please reduce the length of the messages or completion."
        )
    return sampling


def cache_needed(num_prompt: int, max_tokens: int, max_rows: int) -> int:
    """Slots that a request may ever need: for its prompt, its answer, and after them the rows of
    its mode's widest plan, of which not all are kept."""
    return num_prompt + max_tokens + max_rows


def prompt_too_long(num_prompt: int, max_context: int) -> ContextLengthError:
    """For a prompt that leaves no room for any answer."""
    return ContextLengthError(
        f"This model's maximum context length is {max_context} tokens. However, your messages "
        f"resulted in {num_prompt} tokens. Please reduce the length of the messages."
    )
