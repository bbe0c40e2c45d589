"""The checkpoint's chat template: where it is found and how it is rendered.

One that is not ours is rendered in a process of its own, with limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_dlm.checkpoint.default_template import CHAT_TEMPLATE
from vlm_dlm.checkpoint.json_file import read_optional_object
from vlm_dlm.checkpoint.model_types import ModelType, SpecialTokens
from vlm_dlm.errors import CheckpointError, PromptError
from vlm_dlm.processor.template_child import rendered
from vlm_dlm.processor.template_process import TemplateProcess
from vlm_dlm.processor.template_sandbox import compile_template

SPECIAL = SpecialTokens()


class ChatTemplate:
    """A compiled template. `bos` and `eos` are the strings a template may write itself."""

    def __init__(
        self,
        source: str | None = None,
        bos: str = SPECIAL.begin,
        eos: str = SPECIAL.im_end,
        built_in: str = CHAT_TEMPLATE,
    ) -> None:
        """source: None for the built-in one. Raises as TemplateProcess does."""
        # ours is known to be harmless, and a process costs time
        self._process = None if source in (None, built_in) else TemplateProcess(source)
        self._template = compile_template(built_in)
        self._tokens = {"bos_token": bos, "eos_token": eos}

    @property
    def has_process(self) -> bool:
        return self._process is not None

    @classmethod
    def from_folder(cls, folder: Path, model_type: ModelType) -> ChatTemplate:
        """`chat_template.jinja`, else the one in `tokenizer_config.json`, else the built-in."""
        settings = read_optional_object(folder / "tokenizer_config.json")
        path = folder / "chat_template.jinja"
        try:
            source = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            source = _listed_template(settings.get("chat_template"))
        except (OSError, ValueError):
            raise CheckpointError(f"{path} cannot be read") from None
        tokens = {
            name: _token_text(settings.get(f"{name}_token"), default)
            for name, default in (
                ("bos", model_type.special.begin),
                ("eos", model_type.special.im_end),
            )
        }
        return cls(source, **tokens, built_in=model_type.template)

    def render(self, messages: Sequence[dict[str, Any]], enable_thinking: bool) -> str:
        """The conversation up to and including the opening of the next answer.

        Raises PromptError when the template refuses the conversation, CheckpointError when the
        template itself fails.
        """
        values = {
            "messages": list(messages),
            "add_generation_prompt": True,
            "enable_thinking": enable_thinking,
            "tools": None,
            "documents": None,
            **self._tokens,
        }
        if self._process is None:
            reply = rendered(self._template, values)
        else:
            reply = self._process.render(values)
        if "refused" in reply:
            raise PromptError(f"the chat template refuses this conversation: {reply['refused']}")
        if "failed" in reply:
            cause = f": {reply['failed']}" if reply["failed"] else ""
            raise CheckpointError(f"the checkpoint's chat template cannot be rendered{cause}")
        return reply["text"]


def _listed_template(value: Any) -> str | None:
    """`chat_template` is a string, or a list of named ones of which we use 'default'."""
    if isinstance(value, list):
        named = [entry for entry in value if isinstance(entry, dict)]
        if len(named) < len(value):
            raise CheckpointError("tokenizer_config.json has a chat_template without a name")
        value = next((e.get("template") for e in named if e.get("name") == "default"), None)
    if value is not None and not isinstance(value, str):
        raise CheckpointError("tokenizer_config.json has a chat_template that is not text")
    return value


def _token_text(value: Any, default: str) -> str:
    """A token is written as a string or as an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else default
