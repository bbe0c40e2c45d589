"""A chat template compiled and rendered as the Hugging Face tokenizers do, in Jinja's sandbox.

The sandbox keeps a template from files and from code, not from time and memory: one that is not
ours is rendered in a process of its own, `template_process.py`. jinja2 is imported on first use.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from vlm_dlm.errors import CheckpointError

if TYPE_CHECKING:
    import jinja2


class Refusal(Exception):
    """Raised by `raise_exception` inside a template."""


def compile_template(source: str) -> jinja2.Template:
    """Raises CheckpointError if `source` is not a valid template."""
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
    raise Refusal(str(message))


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
