"""Options of modes as options of commands: a command that takes `options` gets one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter
from types import MappingProxyType
from typing import Annotated, Any

import typer

from vlm_dlm.cli.spread import one_option, spread
from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.options import ModeOption, option_table
from vlm_dlm.errors import BadInputError

*_REST, _LAST = MODES
MODE_NAMES = f"{', '.join(_REST)} or {_LAST}"
NONE_GIVEN: Mapping[str, Any] = MappingProxyType({})


def with_mode_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that modes have in the place of its `options`, which it gets as
    a mapping of those typed."""
    table = option_table(mode.options for mode in MODES.values())
    parameters = [_parameter(each) for each in table.values()]
    return spread(command, "options", parameters, lambda typed: _values(table, typed))


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
    return one_option(option.name, Annotated[hint, info])


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
