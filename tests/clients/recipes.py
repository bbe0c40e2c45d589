"""The recipes of docs/clients.md, run as they stand there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
# Any other port than ours: a client's own server.
_PORT = re.compile(r"(?<=127\.0\.0\.1:)(?!8000)\d{4}|(?<=--port )(?!8000)\d{4}")


@cache
def recipes() -> Mapping[str, list[Example]]:
    """By the heading that they stand under, in order."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found: dict[str, list[Example]] = {}
    for example in examples(PAGE, LANGUAGES):
        above = [line[3:] for line in lines[: example.line] if line.startswith("## ")]
        if above:
            found.setdefault(above[-1], []).append(example)
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclass(frozen=True)
class Kitchen:
    """Where one recipe is run. base_url: of the server that it asks. home: its working folder.
    environment: of its programs. port: for a server of its own."""

    client: Client
    base_url: str
    home: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)

    @property
    def examples(self) -> list[Example]:
        return recipes()[self.client.title]

    def run(self) -> str:
        """Run all blocks; what each prints must be what the page shows, where it shows any.

        Returns what all printed. Raises AssertionError.
        """
        printed = ""
        for example in self.examples:
            with self.started(example) as process:
                process.wait(RECIPE_S)
            output = self.output()
            assert process.returncode == 0, f"{output}\n{self.complaints()}"[-6000:]
            if example.shown:
                assert output.strip() == example.shown.strip(), f"{output}\n{self.complaints()}"
            printed += output
        return printed

    @contextmanager
    def started(self, example: Example) -> Iterator[subprocess.Popen[bytes]]:
        """One block; in the end it is killed with all that it started."""
        code = _PORT.sub(str(self.port), example.code).replace(ADDRESS, self.base_url)
        code = code.replace(TOKENIZER, str(ROOT / TOKENIZER))
        with (self.home / "stdout").open("w") as out, (self.home / "stderr").open("w") as errors:
            process = subprocess.Popen(
                self._command(example.language, code),
                cwd=self.home,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def output(self) -> str:
        """Of the block that ran last."""
        return (self.home / "stdout").read_text(encoding="utf-8", errors="replace")

    def complaints(self) -> str:
        return (self.home / "stderr").read_text(encoding="utf-8", errors="replace")

    def _command(self, language: str, code: str) -> list[str]:
        if language == "sh":
            return ["bash", "-euc", code]
        suffix = {"python": "py", "js": "mjs", "java": "java"}[language]
        path = self.home / f"Recipe.{suffix}"
        path.write_text(code, encoding="utf-8")
        if language == "js":  # modules are looked for beside the program
            (self.home / "node_modules").symlink_to(folder(self.client) / "node_modules")
        return ["node" if language == "js" else language, str(path)]
