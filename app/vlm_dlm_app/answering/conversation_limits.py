"""How much one conversation may hold, by the settings."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_dlm.errors import ImageError, PromptError
from vlm_dlm.processor.prompt import Message, TextPart
from vlm_dlm_app.state import Services


def check_num_images(services: Services, num_images: int) -> None:
    """Raise ImageError for more images than one request may bring."""
    limit = services.settings.max_images
    if num_images > limit:
        raise ImageError(f"{num_images} images were given; the limit is {limit} (max_images)")


def check_conversation(services: Services, messages: Sequence[Message]) -> None:
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
