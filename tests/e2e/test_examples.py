"""What README and `examples/` tell people to run, run against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.server import ROOT, Server

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
MODES = ("ar", "diffusion", "linear_spec", "quadratic_spec")
PYTHON = [
    block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if ADDRESS in block
]
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
CURL = [line for line in SHELL.splitlines() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with Server() as running:
        yield running


def run(command: list[str]) -> str:
    """Its standard output, run in the repository root."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_shows_how_to_ask_a_server() -> None:
    assert len(PYTHON) == 1
    assert len(CURL) == 2


@pytest.mark.parametrize("block", PYTHON)
def test_python_block_of_the_readme(server: Server, block: str) -> None:
    output = run([sys.executable, "-c", block.replace(ADDRESS, server.base_url)])
    first, *_, last = output.splitlines()
    assert first.startswith("ar ")
    assert first.endswith(" 1.0")
    assert all(f"\n{mode} " in f"\n{output}" for mode in MODES)
    assert last in output.splitlines()[2]  # linear_spec, not streamed


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("line", CURL)
def test_curl_lines_of_the_readme(server: Server, line: str) -> None:
    output = run(
        ["sh", "-c", line.replace("curl ", "curl -fsS ").replace(ADDRESS, server.base_url)]
    )
    if "/generate" in line:
        reply = json.loads(output)
        assert (reply["mode"], reply["finish_reason"]) == ("diffusion", "stop")
    else:
        assert output.count("event: result\n") == len(MODES)
        summary = json.loads(output.strip().rpartition("data: ")[2])
        assert summary["agreement"]["linear_spec"]["is_identical"] is True


def test_chat_with_the_openai_client(server: Server) -> None:
    output = run([sys.executable, example("chat_openai.py"), "--base-url", f"{server.base_url}/v1"])
    assert all(f"vlm-dlm:{mode}" in output for mode in MODES)
    assert output.count("same answer when not streamed: True") == 1 + len(MODES)


def test_compare(server: Server) -> None:
    output = run([sys.executable, example("compare.py"), "--base-url", f"{server.base_url}/v1"])
    assert output.count(" tokens/s") == len(MODES)
    assert "ar: 100% of the tokens as ar wrote them" in output
    assert "both once" in output


def test_examples_say_what_went_wrong(server: Server) -> None:
    arguments = ["--base-url", f"{server.base_url}/v1", str(ROOT / "README.md")]
    command = [sys.executable, example("compare.py"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "image" in done.stderr
    assert "Traceback" not in done.stderr


def example(name: str) -> str:
    path = ROOT / "examples" / name
    assert path.is_file()
    return str(Path("examples") / name)
