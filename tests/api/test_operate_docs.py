"""docs/operate.md cites what exists: metrics, settings, codes, fields and messages."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.api.serving import PlayedEngine
from vlm_dlm.decoding import MODES
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http.error_codes import STATUS
from vlm_dlm_app.main import create_app
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.settings.sources import OTHER_VARIABLES
from vlm_dlm_app.telemetry.metrics import PREFIX

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
NAME = re.compile(r"`([a-z]+(?:_[a-z]+)+)(?:\{[^`]*\})?(?:=[^`]*)?`")
QUOTED = re.compile(r'"([^"`]{12,}?)"', re.DOTALL)
LOGGED = ("app/vlm_dlm_app/answering/tracking.py", "app/vlm_dlm_app/http/middleware/envelope.py")
SAMPLES = ("_total", "_bucket", "_count", "_sum")


@cache
def texts() -> list[str]:
    """Every text in the code, what is filled in written as one odd character."""
    found: list[str] = []
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "vlm_dlm").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%\w|\{\w*(?::\w+)?\}", "\0", node.value))
    return found


def is_said(message: str) -> bool:
    """Whether the code has this message, with anything for its `…`."""
    pieces = [re.escape(" ".join(piece.split())) for piece in message.split("…")]
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    return any(pattern.search(" ".join(text.split())) for text in texts())


@pytest.mark.parametrize("message", QUOTED.findall(PAGE))
def test_every_message_is_one_of_the_code(message: str) -> None:
    assert is_said(message)


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert len(QUOTED.findall(PAGE)) > 20
    assert not is_said("the image's host has … private address")


def test_every_name_exists(checkpoint: Checkpoint) -> None:
    app = create_app(Settings(), PlayedEngine(), checkpoint)
    text = app.state.services.metrics.render().decode()
    metrics = set(re.findall(rf"^# TYPE {PREFIX}(\S+) ", text, re.MULTILINE))
    fields = set(re.findall(r'"(\w+)": ', str(app.openapi()).replace("'", '"')))
    log = {key for name in LOGGED for key in keys_of(ROOT / name)}
    known = {
        *(metrics | {name.removesuffix(end) for name in metrics for end in SAMPLES}),
        *Settings.model_fields,
        *fields,
        *(label for metric in app.state.services.metrics.own for label in metric._labelnames),
        *STATUS,
        *log,
        *MODES,
    }
    assert {name for name in NAME.findall(PAGE) if name not in known} == set()


def test_every_variable_exists() -> None:
    """In all pages: settings, and what the compose file reads."""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    settings = {f"VLM_DLM_{name.upper()}" for name in Settings.model_fields}
    read = set(re.findall(r"\$\{(\w+)", compose))
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"VLM_DLM_[A-Z_]+[A-Z]", page.read_text(encoding="utf-8")))
        assert named <= settings | read | OTHER_VARIABLES, page.name


def test_log_fields_are_all_named() -> None:
    shown = re.search(r"^\| Line \| Fields \|\n(?:.*\n){3}", PAGE, re.MULTILINE)
    assert shown is not None
    rows = shown[0].splitlines()[2:]
    for row, name in zip(rows, reversed(LOGGED), strict=True):
        keys = [key for key in keys_of(ROOT / name) if key in re.findall(r"`(\w+)`", row)]
        assert keys == keys_of(ROOT / name)


def keys_of(path: Path) -> list[str]:
    """Of the pairs that a line of the log is made of."""
    (found,) = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Dict)
        and any(isinstance(key, ast.Constant) and key.value == "cause" for key in node.keys)
    ]
    return [str(ast.literal_eval(key)) for key in found.keys if key is not None]
