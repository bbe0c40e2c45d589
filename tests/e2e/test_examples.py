"""What README and `examples/` tell people to run, run against a real server."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize("block", PYTHON)
def test_python_block_of_the_readme(server: Server, block: str) -> None:
    output = run([sys.executable, "-c", block.replace(ADDRESS, server.base_url)])
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == list(MODES)
    assert lines[0].endswith(" 1.0")


def test_chat_with_the_openai_client(server: Server) -> None:
    output = run([sys.executable, example("chat_openai.py"), "--base-url", f"{server.base_url}/v1"])
    assert all(f"vlm-dlm:{mode}" in output for mode in MODES)
    assert output.count("same answer when not streamed: True") == 1 + len(MODES)


def test_compare(server: Server) -> None:
    output = run([sys.executable, example("compare.py"), "--base-url", f"{server.base_url}/v1"])
    assert output.count(" tokens/s") == len(MODES)
    assert "ar: 100% of the tokens as ar wrote them" in output
    assert "both once" in output


def test_report_without_a_page(server: Server, tmp_path: Path) -> None:
    """The whole way is walked by tests/newcomer and the tests of the page."""
    out = tmp_path / "report.html"
    command = [sys.executable, example("report.py"), "--base-url", server.base_url]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.startswith("there is no such address here; ")
    assert not out.exists()


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
