"""What the README tells a newcomer to do, on a clean copy, from nothing but Python and make.

    python3 tests/newcomer/replay.py [--keep]

The commands are read out of README.md and the pages it names, never repeated here: a page that no
longer shows one fails, and so does a command that no longer works. Standard library alone, as it
runs before anything is installed. Not part of the test suite: it makes an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, not as a module

from tests.newcomer.blocks import MissingError, block, commands
from tests.newcomer.children import FailedError, Shell
from tests.newcomer.clean_copy import environment, free_port, make_copy

ADDRESS = "http://127.0.0.1:8000"
MODES = ("ar", "diffusion", "linear_spec", "quadratic_spec")
INSTALL_S, START_S = 1200.0, 120.0
ACTIVATE = ". .venv/bin/activate"
OUTSIDE = re.compile(
    r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?https?:|@import"""
)


class Skipped(Exception):
    """A step that this machine cannot take."""


class Newcomer:
    """One walk along the README. Steps are methods, in the order of `steps`."""

    def __init__(self, folder: Path) -> None:
        self.copy = folder / "vlm-dlm"
        self.readme, self.docs = self.copy / "README.md", self.copy / "docs"
        self.log, self.opened = folder / "log.txt", folder / "opened.txt"
        self.port = free_port()
        self.address = ADDRESS.replace("8000", str(self.port))
        self._folder = folder
        self._shell: Shell | None = None

    @property
    def shell(self) -> Shell:
        assert self._shell is not None, "nothing was copied yet"
        return self._shell

    @property
    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("a clean copy", self.take),
            ("make demo", self.demo),
            ("make compare", self.compare),
            ("vlm-dlm serve", self.serve),
            ("the OpenAI client", self.ask),
            ("the page's report", self.report),
            ("the page's endpoints", self.endpoints),
            ("Ctrl-C", self.end),
            ("the command line", self.command_line),
            ("docker compose config", self.compose),
        ]

    def take(self) -> str:
        """The files, and variables that know nothing of where they come from."""
        said = make_copy(self.copy)
        variables = environment(self.copy, self.opened, self.port)
        self._shell = Shell(self.copy, variables, self.log)
        return said

    def demo(self) -> str:
        """Installs, serves, opens a browser; the page is there."""
        began_s = time.monotonic()
        running = self.shell.keep(commands(self.readme, "make demo")[0])
        installed = self.copy / ".venv" / ".installed"
        self._await(lambda: installed.exists() or running.poll() is not None, INSTALL_S)
        installed_s = time.monotonic() - began_s
        self._await(lambda: self.opened.exists() or running.poll() is not None, START_S)
        if not self.opened.exists():
            raise FailedError("the browser was never opened")
        shown = self.opened.read_text().strip()
        if shown != f"{self.address}/":
            raise FailedError(f"the browser was sent to {shown}")
        page = self._get("/")
        if not all(f'"{view}"' in page for view in ("Compare", "Sweep", "Chat")):
            raise FailedError("what answers at / is not the page")
        self._get("/page/page.js")
        self.shell.stop(running)
        return f"installed after {installed_s:.0f} s; the browser was sent to {shown}"

    def compare(self) -> str:
        output = self.shell.run(commands(self.readme, "make compare")[0])
        rows = [line.split() for line in output.splitlines()]
        found = {row[0]: row for row in rows if row and row[0] in MODES}
        if set(found) != set(MODES) or found["linear_spec"][-1] != "yes":
            raise FailedError(f"no table of all modes:\n{output}")
        return f"linear_spec {found['linear_spec'][5]} x ar"

    def serve(self) -> str:
        self._server = self.shell.keep(block(self.readme, "sh", "vlm-dlm serve"))
        self._await(self._is_ready, START_S)
        return f"ready at {self.address}"

    def ask(self) -> str:
        code = block(self.readme, "python", "OpenAI(")
        output = self._python(code)
        lines = output.splitlines()
        if [line.split()[0] for line in lines[: len(MODES)]] != list(MODES):
            raise FailedError(f"not one answer per mode:\n{output}")
        return lines[0]

    def report(self) -> str:
        """A whole file that asks for nothing from anywhere."""
        (command,) = commands(self.readme, "python examples/report.py")
        words = shlex.split(command)
        self.shell.run(f"{ACTIVATE} && {command} --base-url {self.address}")
        html = (self.copy / words[words.index("--out") + 1]).read_text(encoding="utf-8")
        if outside := OUTSIDE.search(html):
            raise FailedError(f"the report asks for something elsewhere: {outside[0]}")
        if "default-src 'none'" not in html or not all(f'"{mode}"' in html for mode in MODES):
            raise FailedError("the report lacks its policy or a mode")
        return f"{len(html):,} characters, nothing from elsewhere"

    def endpoints(self) -> str:
        return self._python(block(self.docs / "page.md", "python", "gradio_client")).splitlines()[
            -1
        ]

    def end(self) -> str:
        code = self.shell.stop(self._server)
        if code:
            raise FailedError(f"the server ended with exit code {code}")
        return "exit code 0"

    def command_line(self) -> str:
        lines = commands(self.docs / "usage.md", "vlm-dlm ")
        for line in lines:
            output = self.shell.run(f"{ACTIVATE} && {line}")
            if "--json" in line:
                json.loads(output)
        return f"{len(lines)} commands of docs/usage.md"

    def compose(self) -> str:
        """What `docker compose up` would read; the binary comes with the tools of the project."""
        lines = [*commands(self.docs / "deploy.md", "docker compose")]
        if "docker compose up" not in self.readme.read_text(encoding="utf-8"):
            raise MissingError("README.md does not name docker compose up")
        binary = self.copy / ".venv" / "bin" / "docker-compose"
        if not binary.exists():
            raise Skipped("no compose binary for this platform")
        for profiles in sorted({" ".join(re.findall(r"--profile \S+", line)) for line in lines}):
            self.shell.run(f"{binary} {profiles} config --quiet")
        return f"{len(lines)} commands of docs/deploy.md"

    def _python(self, code: str) -> str:
        found = code.replace(ADDRESS, self.address)
        if found == code:
            raise MissingError(f"a block does not name {ADDRESS}")
        return self.shell.run(f"{ACTIVATE} && python -", stdin=found)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            return answer.read().decode()

    def _is_ready(self) -> bool:
        if self._server.poll() is not None:
            raise FailedError(f"the server is gone, exit code {self._server.poll()}")
        try:
            return bool(self._get("/health/ready"))
        except OSError:
            return False

    def _await(self, is_true: Callable[[], bool], limit_s: float) -> None:
        end_s = time.monotonic() + limit_s
        while not is_true():
            if time.monotonic() > end_s:
                raise FailedError(f"not there after {limit_s:g} s")
            time.sleep(0.1)

    def close(self) -> list[str]:
        """End what runs. Returns what had outlived its step."""
        return [] if self._shell is None else self._shell.close()


def walk(newcomer: Newcomer) -> bool:
    """Every step, a line each with its seconds; whether all went well."""
    for name, step in newcomer.steps:
        began_s = time.monotonic()
        try:
            mark, said, is_good = "ok", step(), True
        except Skipped as reason:
            mark, said, is_good = "skipped", str(reason), True
        except Exception as error:
            mark, said, is_good = "FAILED", f"{type(error).__name__}: {error}", False
        seconds = time.monotonic() - began_s
        sys.stdout.write(f"{mark:8}{seconds:6.1f} s  {name}: {said}\n")
        sys.stdout.flush()
        if not is_good:
            return False
    return True


def main() -> int:
    """0 if a newcomer gets through."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the copy behind")
    keeps = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="newcomer-"))
    newcomer, began_s = Newcomer(folder), time.monotonic()
    try:
        is_good = walk(newcomer)
    finally:
        left = newcomer.close()
        log = newcomer.log.read_text(errors="replace") if newcomer.log.exists() else ""
        if keeps:
            sys.stdout.write(f"kept in {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if left:
        sys.stdout.write(f"FAILED  processes were left behind: {left}\n")
    if not is_good:
        sys.stdout.write(f"--- the last of what was said ---\n{log[-4000:]}\n")
    sys.stdout.write(f"{time.monotonic() - began_s:.0f} s in all\n")
    return 0 if is_good and not left else 1


if __name__ == "__main__":
    sys.exit(main())
