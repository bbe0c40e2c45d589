"""What the views beside Compare take over from it: the picture, the question and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm_dlm.engine.base import ModeInfo
from vlm_dlm.errors import ImageError
from vlm_dlm.preflight import mode_params
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.runs import checked
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
        raise ApiError("bad_input", "write a question in the Compare view first")
    most = min(max_tokens, services.settings.max_tokens_limit)
    options = Options(max_tokens=most or None)
    return checked(Question, prompt=prompt, images=[image] if image else [], options=options)


def own_params(info: ModeInfo, options: Mapping[str, Any]) -> Any:
    """A mode's Params from the settings of the Compare view, of which each mode takes those that it
    has. Raises ModeError for a value that it cannot run."""
    has = {name: value for name, value in options.items() if name in info.options}
    return mode_params([info.name], has)[info.name]
