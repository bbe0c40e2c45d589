"""docs/api.md: every example is run against a real server, and its shown output is compared."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Generator

import pytest

from tests.e2e.pages import Example, differences, examples, plain, same_events
from tests.e2e.server import ROOT, Server

ADDRESS = "http://127.0.0.1:8000"
PAGE = ROOT / "docs" / "api.md"
EXAMPLES = [found for found in examples(PAGE) if ADDRESS in found.code]
ALIASES = ("/health", "/v1/health/live", "/v1/health/ready")  # other names of the same
# How OpenAI's client names the addresses.
CALLS = {
    "/v1/chat/completions": "chat.completions.create(",
    "/v1/models": "models.list(",
    "/v1/models/{model_id}": "models.retrieve(",
}


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with Server() as running:
        yield running


def output_of(example: Example, server: Server) -> str:
    code = example.code.replace(ADDRESS, server.base_url)
    is_shell = example.language == "sh"
    command = (
        ["bash", "-c", code.replace("curl ", "curl -sS ")] if is_shell else [sys.executable, "-"]
    )
    done = subprocess.run(
        command,
        cwd=ROOT,
        input="" if is_shell else code,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_example(server: Server, example: Example) -> None:
    if example.language == "sh" and shutil.which("curl") is None:
        pytest.skip("there is no curl")
    assert example.shown, "no output is shown"
    output = output_of(example, server)
    if example.shown_as == "json":
        assert differences(json.loads(example.shown), json.loads(output)) == []
    elif example.shown.startswith("event: "):
        assert same_events(example.shown, output) == []
    else:
        assert plain(output) == plain(example.shown)


def test_every_address_has_an_example_in_both_languages(server: Server) -> None:
    paths = json.loads(server.get("/openapi.json"))["paths"]
    shell = "".join(example.code for example in EXAMPLES if example.language == "sh")
    shell = shell.replace("/vlm-dlm:ar", "/{model_id}")
    python = "".join(example.code for example in EXAMPLES if example.language == "python")
    for path in (path.replace(":path}", "}") for path in paths):
        is_shown = re.search(rf"curl (-\w )?{re.escape(ADDRESS + path)}\s", shell)
        assert is_shown or path in ALIASES, path
        assert CALLS.get(path, path) in python, path


def test_a_reply_of_another_shape_is_noticed() -> None:
    shown = {"a": 1, "b": [{"c": "x…"}], "d": {"…": "…"}, "e": None}
    assert differences(shown, {"a": 2.5, "b": [{"c": "xyz"}], "d": {"q": 1}, "e": None}) == []
    real = {"a": "2", "b": [{"c": "y", "f": 1}], "d": {}, "g": None}
    assert differences(shown, real) == [
        "reply has no e",
        "reply also has g",
        "reply.a is '2'",
        "reply.b[0] also has f",
        "reply.b[0].c is 'y'",
    ]
    assert differences({"a": True}, {"a": 1}) == ["reply.a is 1"]
