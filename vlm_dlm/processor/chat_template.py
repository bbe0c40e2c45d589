"""The checkpoint's chat template: where it is found and how it is rendered.

Renders as the Hugging Face tokenizers do, in a sandbox. jinja2 is imported on first use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vlm_dlm.errors import CheckpointError, PromptError
from vlm_dlm.processor.default_template import CHAT_TEMPLATE

if TYPE_CHECKING:
    import jinja2

_MAX_REASON_LEN = 200


class ChatTemplate:
    """A compiled template. `bos` and `eos` are the strings a template may write itself."""

    def __init__(self, source: str = CHAT_TEMPLATE, bos: str = "<s>", eos: str = "<|im_end|>"):
        """Raises CheckpointError if `source` is not a valid template."""
        self._template = _compile(source)
        self._tokens = {"bos_token": bos, "eos_token": eos}

    @classmethod
    def from_folder(cls, folder: Path) -> ChatTemplate:
        """`chat_template.jinja`, else the one in `tokenizer_config.json`, else the built-in."""
        settings = _tokenizer_settings(folder / "tokenizer_config.json")
        path = folder / "chat_template.jinja"
        try:
            source = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            source = _listed_template(settings.get("chat_template"))
        except (OSError, ValueError):
            raise CheckpointError(f"{path} cannot be read") from None
        tokens = {
            name: _token_text(settings.get(f"{name}_token"), default)
            for name, default in (("bos", "<s>"), ("eos", "<|im_end|>"))
        }
        return cls(source, **tokens)

    def render(self, messages: Sequence[dict[str, Any]], enable_thinking: bool) -> str:
        """The conversation up to and including the opening of the next answer.

        Raises PromptError when the template refuses the conversation, CheckpointError when the
        template itself fails.
        """
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=True,
                enable_thinking=enable_thinking,
                tools=None,
                documents=None,
                **self._tokens,
            )
        except _Refusal as refusal:
            reason = str(refusal)[:_MAX_REASON_LEN]
            raise PromptError(f"the chat template refuses this conversation: {reason}") from None
        except Exception:  # a template can raise anything Python's operators raise
            raise CheckpointError("the checkpoint's chat template cannot be rendered") from None


class _Refusal(Exception):
    """Raised by `raise_exception` inside a template."""


def _compile(source: str) -> jinja2.Template:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    try:
        return environment.from_string(source)
    except jinja2.TemplateError:
        raise CheckpointError("the checkpoint's chat template is not valid") from None


def _refuse(message: object) -> NoReturn:
    raise _Refusal(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: the filter that jinja2 ships escapes HTML, which changes the prompt."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _tokenizer_settings(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise CheckpointError(f"{path} is not valid JSON") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return raw


def _listed_template(value: Any) -> str:
    """`chat_template` is a string, or a list of named ones of which we use 'default'."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value}
        value = named.get("default")
    if value is None:
        return CHAT_TEMPLATE
    if not isinstance(value, str):
        raise CheckpointError("tokenizer_config.json has a chat_template that is not text")
    return value


def _token_text(value: Any, default: str) -> str:
    """A token is written as a string or as an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else default
