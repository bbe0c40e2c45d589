"""Several options of a command in the place of one parameter that is made from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter
from typing import Any


def spread(
    command: Callable[..., None],
    name: str,
    parameters: Sequence[Parameter],
    gather: Callable[[dict[str, Any]], Any],
) -> Callable[..., None]:
    """The command as Typer is to see it. name: of its own parameter; gather: what was typed, by
    name, to that."""
    signature = inspect.signature(command, eval_str=True)
    shown: list[Parameter] = []
    for parameter in signature.parameters.values():
        shown += parameters if parameter.name == name else [parameter]

    @wraps(command)
    def run(**given: Any) -> None:
        typed = {one.name: given.pop(one.name) for one in parameters}
        command(**{name: gather(typed)}, **given)

    run.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in shown}
    return run


def one_option(name: str, annotation: Any, default: Any = None) -> Parameter:
    """One of the several."""
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
