"""Options that follow from modes and from sampling are those of every command that takes them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import typer

from vlm_dlm.cli import main as cli
from vlm_dlm.cli.sampling_options import GREEDY
from vlm_dlm.decoding import MODES
from vlm_dlm.request import SamplingParams

COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["generate", "compare", "eval"])
def test_every_option_of_a_mode(command: str) -> None:
    wanted = {option.name for mode in MODES.values() for option in mode.options}
    assert wanted <= {parameter.name for parameter in COMMANDS[command].params}


def test_sampling_is_alike_and_has_the_defaults_of_the_library() -> None:
    names = {field.name for field in fields(SamplingParams)}
    found = [
        {one.name: (one.opts, one.help, one.default) for one in COMMANDS[command].params}
        for command in ("generate", "compare")
    ]
    shared = [{name: one[name] for name in one if name in names} for one in found]
    assert shared[0] == shared[1]
    assert len(shared[0]) == 9
    for name, (_, _, default) in shared[0].items():
        assert default == getattr(GREEDY, name)
