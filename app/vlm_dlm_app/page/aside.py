"""Values of a call on their way past Gradio, which parses a body, and looks for files in every
corner of each value, on the event loop; `calls` has done both, and left no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

_KEY = "vlm_dlm_call_values"


@dataclass(frozen=True, slots=True)
class Values:
    """What Gradio gets empty places for. event: what the event brought."""

    data: Sequence[Any]
    event: Any


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """A list or an object as something that Gradio does not look into."""

    value: Any


def with_values(scope: Scope, values: Values) -> Scope:
    """The request of a call, which has them for as long as Gradio keeps it."""
    return {**scope, _KEY: values}


def values_of(request: Any) -> Values | None:
    """Those of a call. request: Gradio's, or none."""
    http = getattr(request, "request", None)
    return None if http is None else http.scope.get(_KEY)


def apart(value: Any) -> Any:
    """What Gradio may pass on."""
    return Apart(value) if isinstance(value, list | dict) else value


def together(value: Any) -> Any:
    """What it passed on."""
    return value.value if isinstance(value, Apart) else value
