"""docs/fetching.md against the code it describes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typer.main import get_command

from vlm_dlm.checkpoint.family import FULL_MODEL, MEMBERS
from vlm_dlm.cli.main import app
from vlm_dlm.diagnosis.needs import memory_needs

PAGE = (Path(__file__).parents[3] / "docs" / "fetching.md").read_text(encoding="utf-8")


def test_every_member_is_listed_with_its_sizes() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `nvidia/")]
    shown = {row[0].split("`")[1]: [cell.strip() for cell in row[1:6]] for row in rows}
    assert list(shown) == list(MEMBERS)
    for repo, member in MEMBERS.items():
        needs = {
            need.quantize or need.dtype: need for need in memory_needs(member.config, "", None)
        }
        sizes = [
            f"{needs[form].weight_bytes / 1e9:.1f} GB" for form in ("bfloat16", "int8", "int4")
        ]
        parameters = needs["bfloat16"].weight_bytes // 2
        cache = f"{needs['bfloat16'].cache_bytes_per_token / 1e3:.0f} MB"
        assert shown[repo] == [f"{parameters:,}", *sizes, cache]


def test_pin_and_licences_are_named() -> None:
    assert f"`{MEMBERS[FULL_MODEL].revision}`" in PAGE
    for member in MEMBERS.values():
        assert f"{member.licence.name}, `{member.licence.id}`" in PAGE


def test_flags_are_those_of_the_command() -> None:
    command: Any = get_command(app)
    options = {name for option in command.commands["fetch"].params for name in option.opts}
    section = PAGE.split("## `vlm-dlm fetch")[1].split("\n## ")[0]
    shown = set(re.findall(r"--[a-z][a-z-]+", section))
    assert shown - {"--model"} == {name for name in options if name.startswith("--")}
