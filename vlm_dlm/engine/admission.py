"""Which requests an engine can ever run. Refuses the others before they wait for nothing."""

from __future__ import annotations

from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.errors import CapacityError, PromptError
from vlm_dlm.request import GenerationRequest


def check_prompt(request: GenerationRequest, max_context: int, image_token_id: int | None) -> None:
    """Raises PromptError for a prompt that is empty, too long, or at odds with its images."""
    prompt, max_tokens = request.prompt, request.sampling.max_tokens
    num_prompt = len(prompt.token_ids)
    if num_prompt == 0:
        raise PromptError("the prompt is empty")
    num_pads = 0 if image_token_id is None else prompt.token_ids.count(image_token_id)
    if num_pads != prompt.num_image_tokens:
        raise PromptError(
            f"the prompt has {num_pads} image placeholders for "
            f"{prompt.num_image_tokens} image features"
        )
    if num_prompt + max_tokens > max_context:
        raise PromptError(
            f"the prompt has {num_prompt} tokens and {max_tokens} more were asked for; "
            f"this model's context holds {max_context}"
        )


def cache_needed(request: GenerationRequest, max_rows: int, config: EngineConfig) -> int:
    """Most cache slots the request can ever need, whose widest plan has `max_rows` rows.

    Raises CapacityError where the engine is too small for it.
    """
    if max_rows > config.max_batched_tokens:
        raise CapacityError(
            f"one step needs {max_rows} rows; this engine runs {config.max_batched_tokens}"
        )
    needed = len(request.prompt.token_ids) + request.sampling.max_tokens + max_rows
    available = config.num_pages * config.page_size
    if needed > available:
        raise CapacityError(
            f"the request needs cache for {needed} tokens; this engine has {available}"
        )
    return needed
