"""A real `vlm-dlm serve` in a process of its own: started, watched, stopped, nothing left behind.

For tests and benchmarks. Settings go in as VLM_DLM_* variables; the port is a free one.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e.processes import Process, children
from vlm_dlm.serving.process.child import MODULE

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S = 300.0, 60.0
LISTENING = re.compile(r"Listening on http://(\[[^\]]+\]|[^:/]+):([0-9]+)")
READY = re.compile(r"Ready\b")
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)", re.MULTILINE)


class Server:
    """One server. settings: by their lower-case names, as `max_running=4`; env: other variables.
    Without the page and without a spare engine unless asked for, as each takes seconds of the
    processor to come up.

    A context manager: starts, waits until it is ready, and ends every process of it on the way out.
    """

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        is_ready_wanted: bool = True,
        arguments: tuple[str, ...] = (),
        enter: Callable[[], None] | None = None,
        **settings: Any,
    ) -> None:
        """enter: called in the new process before it becomes the server, as to join a group."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VLM_DLM")}
        asked = {"page": False, "spare_engine": False, **settings}
        given = {f"VLM_DLM_{name.upper()}": _text(value) for name, value in asked.items()}
        self._environment = {**kept, **given, **(env or {})}
        self._arguments = ("--port", "0", *arguments)
        self._is_ready_wanted = is_ready_wanted
        self._enter = enter
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._changed = threading.Condition()
        self._seen: set[Process] = set()
        self.lines: list[str] = []
        self.host, self.port = "", 0

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that listens."""
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything it wrote to its standard error so far."""
        return "".join(self.lines)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Return once it listens and, if wanted, is ready. Raises RuntimeError with its log."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vlm_dlm", "serve", *self._arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=self._prepare,
        )
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        found = self.wait_for_line(LISTENING)
        self.host, self.port = found[1], int(found[2])
        if self._is_ready_wanted:
            self.wait_for_line(READY)
            self.processes()

    def _prepare(self) -> None:
        """Runs in the new process."""
        if sys.platform == "linux":
            _die_with_parent()
        if self._enter is not None:
            self._enter()

    def wait_for_line(
        self, pattern: re.Pattern[str], timeout_s: float = START_S, skip: int = 0
    ) -> re.Match[str]:
        """The first line from `skip` on that matches. Raises RuntimeError with the log."""
        deadline = time.monotonic() + timeout_s
        position = skip
        with self._changed:
            while True:
                for line in self.lines[position:]:
                    if found := pattern.search(line):
                        return found
                position = len(self.lines)
                rest = deadline - time.monotonic()
                is_over = self._reader is None or not self._reader.is_alive()
                if rest <= 0 or is_over or not self._changed.wait(rest):
                    break
        raise RuntimeError(f"the server never wrote {pattern.pattern!r}; its log:\n{self.log}")

    def processes(self) -> list[Process]:
        """Everything it started that is alive. What was ever seen here is checked at the end."""
        found = children(self.pid)
        self._seen.update(found)
        return found

    def engines(self) -> list[Process]:
        """The processes that hold the engine: normally one; none while it is being replaced."""
        return [process for process in self.processes() if is_engine(process)]

    def orphans(self) -> list[Process]:
        """Processes it once had that are still alive."""
        return [process for process in self._seen if process.is_alive]

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by name and labels."""
        return parse_metrics(self.get("/metrics"))

    def gauge(self, name: str) -> float:
        """The sum over all labels of one metric, without the prefix; 0 if it has no sample."""
        return total(self.metrics(), name)

    def get(self, path: str, timeout_s: float = 5.0) -> str:
        """The body of a GET with status 200."""
        with urllib.request.urlopen(self.base_url + path, timeout=timeout_s) as answer:
            return answer.read().decode()

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to the process that listens."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Its exit code. Raises TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float = STOP_S) -> int:
        """Ask it to end, as a process manager would, and return its exit code."""
        self.processes()
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """End it and all that it started, at once. Safe to call at any time, and twice."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.processes()
            self._process.kill()
        self._process.wait()
        for process in self.orphans():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if self._reader is not None:
            self._reader.join(5)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with suppress(ValueError):  # closed under us while leaving
            for line in process.stderr:
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def _die_with_parent() -> None:
    """Runs in the new process: a test run that is killed must not leave its servers behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def is_engine(process: Process) -> bool:
    """Whether it is an engine, and not a child that decodes images."""
    return MODULE in process.command


def parse_metrics(text: str) -> dict[str, float]:
    """Prometheus' text form: 'name{labels}' -> value."""
    return {name + labels: float(value) for name, labels, value in _SAMPLE.findall(text)}


def total(metrics: Mapping[str, float], name: str) -> float:
    """The sum over all labels of the metric `vlm_dlm_<name>`."""
    full = f"vlm_dlm_{name}"
    return sum(value for key, value in metrics.items() if key.partition("{")[0] == full)


def labelled(metrics: Mapping[str, float], name: str, label: str) -> float:
    """As `total`, of the samples that have this label, as 'name="value"'."""
    full = f"vlm_dlm_{name}{{"
    return sum(value for key, value in metrics.items() if key.startswith(full) and label in key)


def eventually(is_true: Callable[[], bool], timeout_s: float, pause_s: float = 0.01) -> float:
    """Seconds until `is_true`. Raises TimeoutError."""
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"not so within {timeout_s:g} s")
        time.sleep(pause_s)
    return time.monotonic() - began


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
