"""The tables of docs/ say what the code does: flags and errors (serving.md), addresses (api.md),
metrics (operate.md). The table of settings is written from the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import typer

from tests.api.serving import PlayedEngine
from vlm_dlm import errors
from vlm_dlm.cli.main import app as cli
from vlm_dlm.cli.serve import NO_SETTINGS
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http import errors as app_errors
from vlm_dlm_app.main import create_app
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.telemetry.metrics import PREFIX

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"Settings": "serving", "Errors": "serving", "Addresses": "api", "Metrics": "operate"}
# Of the page: parts that answer over HTTP.
PAGE_ANSWERS = {"boundary.py", "calls.py", "streams.py", "uploads.py", "upload_routes.py"}


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


def raised_codes() -> set[tuple[int, str]]:
    """(status, code) of every ApiError made in the app, and of the exceptions of the library."""
    found: set[tuple[int, str]] = set()
    for path in (ROOT / "app").rglob("*.py"):
        is_page = ROOT / "app" / "vlm_dlm_app" / "page" in path.parents
        if is_page and path.name not in PAGE_ANSWERS:  # what its views say is no answer over HTTP
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "ApiError"):
                continue
            status, code = node.args[:2]
            if isinstance(status, ast.Constant):
                text = ast.unparse(code).removeprefix("errors.")
                found.add((ast.literal_eval(status), eval(text, dict(vars(errors)))))
    found |= {(status, code) for status, (code, _) in app_errors._FRAMEWORK.items()}  # pyright: ignore
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.VlmDlmError):
            found.add((app_errors.to_api_error(cls("")).status, cls.code))
    return found


def test_every_error_is_listed_and_no_other() -> None:
    listed = {(int(row[0]), code) for row in rows("Errors") for code in names(row[1])}
    # never seen by a client: a base class, and what stops the server from starting
    silent = {(503, "busy"), (500, "bad_checkpoint")}
    assert listed == raised_codes() - silent


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
    services = create_app(Settings(), PlayedEngine(), checkpoint).state.services
    text = services.metrics.render().decode()
    exported = set(re.findall(rf"^# TYPE {PREFIX}(\S+) ", text, re.MULTILINE))
    listed = {name.partition("{")[0] for row in rows("Metrics") for name in names(row[0])}
    assert {name for name in exported if not name.endswith("_created")} == listed
