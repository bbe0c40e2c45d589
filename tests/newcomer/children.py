"""Commands in the copy: run to their end, or kept running until they are stopped with all they
started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

STOP_S = 45.0
END_S = 5.0  # for children of a server that was killed to notice


class FailedError(Exception):
    """A command did not do what the page says."""


@dataclass(slots=True)
class Shell:
    """Runs commands in `folder` with exactly these variables. log: where their words go."""

    folder: Path
    variables: Mapping[str, str]
    log: Path
    _kept: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def run(self, command: str, limit_s: float = 120.0, stdin: str = "") -> str:
        """Its standard output. Raises FailedError with the end of what it said."""
        process = self._start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            output, said = process.communicate(stdin.encode(), limit_s)
        except subprocess.TimeoutExpired:
            raise FailedError(f"{command}\n  took more than {limit_s:g} s") from None
        finally:
            self._end(process, signal.SIGKILL)
        words = said.decode(errors="replace")
        with self.log.open("a") as log:
            log.write(f"$ {command}\n{words}")
        if process.returncode:
            raise FailedError(f"{command}\n  exit code {process.returncode}: {words[-3000:]}")
        return output.decode()

    def keep(self, command: str) -> subprocess.Popen[bytes]:
        """Start it and let it run; its words go to the log."""
        with self.log.open("ab") as log:
            return self._start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """Ask it and what it started to end, as Ctrl-C does in a terminal. Returns the exit code.
        Raises FailedError if it stays."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise FailedError(f"it is still there {STOP_S:g} s after Ctrl-C") from None
        finally:
            self._end(process, signal.SIGKILL)
        return code

    def close(self) -> list[str]:
        """End everything. Returns what still ran below the folder, apart from what was kept."""
        for process in self._kept:
            self._end(process, signal.SIGKILL)
        end_s = time.monotonic() + END_S
        while (left := self._left()) and time.monotonic() < end_s:
            time.sleep(0.1)
        for pid, _ in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [command for _, command in left]

    def _start(
        self,
        command: str,
        stdin: int,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=dict(self.variables),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self._kept.append(process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Its whole session: servers start their engines in it."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if process.poll() is None:
            process.wait()

    def _left(self) -> list[tuple[int, str]]:
        """Processes that know of the copy, by what /proc says; none elsewhere."""
        found: list[tuple[int, str]] = []
        for entry in Path("/proc").glob("[0-9]*"):
            if int(entry.name) == os.getpid():
                continue
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if str(self.folder).encode() in (entry / "environ").read_bytes():
                    found.append((int(entry.name), command.strip()))
        return found
