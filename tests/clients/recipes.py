"""The recipes of docs/clients.md, run as they stand there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.clients.environments import Client, folder
from tests.e2e.pages import Example, examples
from tests.e2e.server import ROOT

PAGE = ROOT / "docs" / "clients.md"
ADDRESS = "http://127.0.0.1:8000"
LANGUAGES = ("sh", "python", "js", "java")
TOKENIZER = "assets/embedded"  # as recipes name it
RECIPE_S = 540.0
_PORT = re.compile(r"(?<=127\.0\.0\.1:)(?!8000)\d{4}|(?<=--port )(?!8000)\d{4}")


@cache
def recipes() -> Mapping[str, list[Example]]:
    """By the heading that they stand under, in order."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found: dict[str, list[Example]] = {}
    for example in examples(PAGE, LANGUAGES):
        above = [line[3:] for line in lines[: example.line] if line.startswith("## ")]
        found.setdefault(above[-1] if above else "", []).append(example)
    return found


def run_recipe(client: Client, base_url: str, home: Path, environment: Mapping[str, str]) -> str:
    """Run all blocks of it, in `home`; what each prints must be what the page shows.

    Returns what all printed. Raises AssertionError.
    """
    printed = ""
    port = _free_port()
    for example in recipes()[client.title]:
        code = _PORT.sub(port, example.code).replace(ADDRESS, base_url)
        code = code.replace(TOKENIZER, str(ROOT / TOKENIZER))
        output = _run(client, example.language, code, home, environment)
        if example.shown:
            assert output.strip() == example.shown.strip(), output
        printed += output
    return printed


def _run(
    client: Client, language: str, code: str, home: Path, environment: Mapping[str, str]
) -> str:
    """Standard output of one block. What it leaves running in the background is ended."""
    with (home / "stdout").open("w") as out, (home / "stderr").open("w") as complaints:
        process = subprocess.Popen(
            _command(client, language, code, home),
            cwd=home,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=complaints,
            start_new_session=True,
        )
        try:
            process.wait(RECIPE_S)
        finally:
            _end(process)
    output = (home / "stdout").read_text(encoding="utf-8")
    complaint = (home / "stderr").read_text(encoding="utf-8", errors="replace")
    assert process.returncode == 0, f"{output}\n{complaint}"[-6000:]
    return output


def _command(client: Client, language: str, code: str, home: Path) -> list[str]:
    if language == "sh":
        return ["bash", "-euc", code]
    suffix = {"python": "py", "js": "mjs", "java": "java"}[language]
    path = home / f"Recipe.{suffix}"
    path.write_text(code, encoding="utf-8")
    if language == "js":  # modules are looked for beside the program
        (home / "node_modules").symlink_to(folder(client) / "node_modules")
    return ["node" if language == "js" else language, str(path)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """It, and all of its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])
