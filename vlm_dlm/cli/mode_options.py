"""Options of modes as options of commands: a command that takes `options` gets one for each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import Parameter
from types import MappingProxyType
from typing import Annotated, Any

import typer

from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.options import ModeOption, option_table
from vlm_dlm.errors import BadInputError

*_REST, _LAST = MODES
MODE_NAMES = f"{', '.join(_REST)} or {_LAST}"
NONE_GIVEN: Mapping[str, Any] = MappingProxyType({})


def with_mode_options(
    command: Callable[..., None], names: Collection[str] | None = None
) -> Callable[..., None]:
    """The command with the options that modes have in the place of its `options`, which it gets as
    a mapping of those typed. names: only these."""
    table = option_table(mode.options for mode in MODES.values())
    chosen = {name: table[name] for name in table if names is None or name in names}
    parameters: list[Parameter] = []
    signature = inspect.signature(command, eval_str=True)
    for parameter in signature.parameters.values():
        is_place = parameter.name == "options"
        parameters += map(_parameter, chosen.values()) if is_place else [parameter]

    @wraps(command)
    def run(**given: Any) -> None:
        typed = {name: given.pop(name) for name in chosen}
        command(options=_values(chosen, typed), **given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parameter(option: ModeOption) -> Parameter:
    """As one of a command; None is what was not typed."""
    flag = option.name.replace("_", "-")
    hint: Any
    if option.kind is bool:
        info = typer.Option(f"--{flag}/--no-{flag}", help=option.help, show_default=False)
        hint = bool | None
    else:
        info = typer.Option(f"--{flag}", metavar=option.metavar, help=option.help)
        hint = (str if _has_none(option) else option.kind) | None
    kind = Parameter.POSITIONAL_OR_KEYWORD
    return Parameter(option.name, kind, default=None, annotation=Annotated[hint, info])


def _values(table: Mapping[str, ModeOption], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were typed. One of 'none' is None, which is a value."""
    given = {name: value for name, value in typed.items() if value is not None}
    return {
        name: _parse(table[name], value) if _has_none(table[name]) else value
        for name, value in given.items()
    }


def _has_none(option: ModeOption) -> bool:
    return option.kind is float and option.can_be_none


def _parse(option: ModeOption, text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        words = f"it must be {option.low:g} to {option.high:g}, or none"
        raise BadInputError(f"{option.name} is {text!r}; {words}") from None
