"""The tables of docs/ say what the code does: flags (serving.md), addresses (api.md). Those of
settings, errors, metrics and options are written from the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import pytest
import typer

from tests.api.serving import PlayedEngine
from vlm_dlm import errors
from vlm_dlm.cli.main import app as cli
from vlm_dlm.cli.serve import NO_SETTINGS
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http import errors as app_errors
from vlm_dlm_app.http.error_codes import ROWS, STATUS
from vlm_dlm_app.main import create_app
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.telemetry.metrics import PREFIX

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"Settings": "serving", "Errors": "serving", "Addresses": "api", "Metrics": "operate"}


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    page = (ROOT / "docs" / f"{PLACES[heading]}.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def serve_options() -> dict[str, Any]:
    """The flags of `vlm-dlm serve` by the names of their parameters."""
    command = cast("Any", typer.main.get_command(cli)).commands["serve"]
    return {option.name: option for option in command.params}


def test_every_flag_is_a_setting_and_shown_with_it() -> None:
    options = {name: option for name, option in serve_options().items() if name not in NO_SETTINGS}
    shown = {cell[0]: cell[1:] for row in rows("Settings") for cell in [names(row[0])]}
    assert {name: flags for name, flags in shown.items() if flags} == {
        name: option.opts for name, option in options.items()
    }


def test_the_help_of_a_flag_says_what_its_setting_takes() -> None:
    """Written twice, since the help must not wait for what serving imports."""
    options = serve_options()
    for name in options.keys() - {*NO_SETTINGS, "model", "api_keys"}:  # of these, words
        field, option = Settings.model_fields[name], options[name]
        kinds = (field.annotation, *get_args(field.annotation))
        for kind in kinds:
            if get_origin(kind) is Literal:
                assert option.metavar == "|".join(get_args(kind)), name
        nothing = {"quantize": "none"}.get(name, True)
        words = {True: f"--{name}", False: True, None: nothing}
        shown = option.show_default
        assert shown == words.get(field.default, shown), name
        if field.default not in words:
            assert shown == str(field.default).removesuffix(".0"), name


def raised_codes() -> set[str]:
    """Of every ApiError made in the app, and of the exceptions of the library."""
    found = {code for code, _ in app_errors._FRAMEWORK.values()}  # pyright: ignore
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ApiError":
                for code in node.args[:1]:
                    if isinstance(code, ast.Constant):
                        found.add(str(code.value))
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.VlmDlmError):
            found.add(app_errors.to_api_error(cls("")).code)
    return found


def test_every_code_is_in_the_table_and_no_other() -> None:
    # `busy` of the library is a base class; the page has a use of its own
    assert raised_codes() == STATUS.keys()


def test_a_code_has_one_status() -> None:
    codes = [code for row in ROWS for code in row.codes]
    assert len(codes) == len(set(codes))
    with pytest.raises(KeyError):
        app_errors.ApiError("made_up", "x")


def test_every_address_is_listed(checkpoint: Checkpoint) -> None:
    document = create_app(Settings(), PlayedEngine(), checkpoint).openapi()
    served = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    listed = {name for row in rows("Addresses") for name in names(row[0])}
    assert {re.sub(r"\{(\w+):path\}", r"{\1}", name) for name in served} == listed - {
        "GET /openapi.json"
    }


def test_every_metric_is_listed(checkpoint: Checkpoint) -> None:
    """What is scraped is what the table was written from."""
    services = create_app(Settings(), PlayedEngine(), checkpoint).state.services
    text = services.metrics.render().decode()
    exported = set(re.findall(rf"^# TYPE {PREFIX}(\S+) ", text, re.MULTILINE))
    listed = {name.partition("{")[0] for row in rows("Metrics") for name in names(row[0])}
    assert {name for name in exported if not name.endswith("_created")} == listed
