"""Which requests an engine can ever run. Refuses the others before they wait for nothing."""

from __future__ import annotations

from vlm_dlm.answer_room import cache_needed, fit_answer
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.errors import CapacityError, PromptError
from vlm_dlm.request import GenerationRequest, PromptInput


def check_prompt(prompt: PromptInput, image_token_id: int | None) -> None:
    """Raises PromptError for a prompt that is empty, or at odds with its images."""
    if len(prompt.token_ids) == 0:
        raise PromptError("the prompt is empty")
    num_pads = 0 if image_token_id is None else prompt.token_ids.count(image_token_id)
    if num_pads != prompt.num_image_tokens:
        raise PromptError(
            f"the prompt has {num_pads} image placeholders for "
            f"{prompt.num_image_tokens} image features"
        )


def reserved(
    request: GenerationRequest, max_rows: int, max_context: int, config: EngineConfig
) -> tuple[int, int]:
    """Most tokens of the answer, and most cache slots that the request can ever need, whose widest
    plan has `max_rows` rows.

    Raises ContextLengthError where the context is too short for it, CapacityError where the engine
    is too small.
    """
    if max_rows > config.max_batched_tokens:
        raise CapacityError(
            f"one step needs {max_rows} rows; this engine runs {config.max_batched_tokens}"
        )
    num_prompt, available = len(request.prompt.token_ids), config.num_slots
    max_tokens = fit_answer(
        request.sampling, num_prompt, max_context, available, max_rows
    ).max_tokens
    assert max_tokens is not None, "it has been fitted"
    needed = cache_needed(num_prompt, max_tokens, max_rows)
    if needed > available:
        raise CapacityError(
            f"the request needs cache for {needed} tokens; this engine has {available}"
        )
    return max_tokens, needed
