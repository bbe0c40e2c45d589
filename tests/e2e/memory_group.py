"""A control group with a limit of memory, as a container has: for a server and all it starts."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

ROOT = Path("/sys/fs/cgroup")
_V1, _V2 = "memory.limit_in_bytes", "memory.max"
SAMPLE_S = 0.01


class NoGroups(Exception):
    """This machine lets nobody make such a group; the text says why."""


class MemoryGroup:
    """Below the root of version 1 or 2. A context manager: nothing of it stays. Raises NoGroups."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        name = f"vlm-dlm-test-{os.getpid()}-{time.monotonic_ns()}"
        is_first = (ROOT / "memory").is_dir()
        self._folder = (ROOT / "memory" if is_first else ROOT) / name
        self._limit = _V1 if is_first else _V2
        try:
            if not is_first:
                (ROOT / "cgroup.subtree_control").write_text("+memory")
            self._folder.mkdir()
            (self._folder / self._limit).write_text(str(limit_bytes))
            if not is_first:
                with suppress(OSError):
                    (self._folder / "memory.swap.max").write_text("0")
        except OSError as error:
            with suppress(OSError):
                self._folder.rmdir()
            raise NoGroups(f"no control group of memory can be made here: {error}") from None

    def __enter__(self) -> MemoryGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        until_s = time.monotonic() + 20
        while self._folder.exists() and time.monotonic() < until_s:
            for pid in self.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.05)

    def enter(self) -> None:
        """Move the calling process in. To be called in a child before it runs anything."""
        (self._folder / "cgroup.procs").write_text("0")

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in (self._folder / "cgroup.procs").read_text().split()]

    @property
    def num_kills(self) -> int:
        """Processes in it that the kernel ended for lack of memory."""
        name = "memory.oom_control" if self._limit == _V1 else "memory.events"
        found = re.search(r"^oom_kill (\d+)$", (self._folder / name).read_text(), re.MULTILINE)
        assert found is not None, f"{name} tells no kills"
        return int(found[1])

    @property
    def used_bytes(self) -> int:
        """Without the files that the kernel would let go of."""
        fields = ("total_rss", "total_shmem") if self._limit == _V1 else ("anon", "shmem")
        lines = (self._folder / "memory.stat").read_text().splitlines()
        found = {name: int(value) for name, value in (line.split() for line in lines)}
        return sum(found.get(name, 0) for name in fields)

    @contextmanager
    def watched(self) -> Generator[None]:
        """Meanwhile `peak_bytes` is the most that was used at any look."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(SAMPLE_S):
                self.peak_bytes = max(self.peak_bytes, self.used_bytes)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
