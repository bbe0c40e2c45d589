"""What /proc says about a process and those it started. Linux only."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PPID, _SESSION, _UTIME, _STIME, _START = 1, 3, 11, 12, 19  # fields after the name, from 0
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `start` (ticks since boot) tells it from a later one with the same id."""

    pid: int
    start: int
    command: str

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; one that only waits to be reaped does not."""
        fields = _fields(self.pid)
        return bool(fields) and int(fields[_START]) == self.start and fields[0] not in ("Z", "X")


def children(pid: int) -> list[Process]:
    """All living processes below `pid`, at any depth, itself not included."""
    table = {int(name): _fields(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found = {pid}
    is_growing = True
    while is_growing:
        below = {child for child, fields in table.items() if fields and int(fields[_PPID]) in found}
        is_growing = not below <= found
        found |= below
    found.discard(pid)
    processes = (
        Process(child, int(table[child][_START]), command_of(child)) for child in sorted(found)
    )
    return [process for process in processes if process.is_alive]


def command_of(pid: int) -> str:
    """Its command line, arguments parted by spaces; empty once it is gone."""
    with suppress(*_GONE):
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
        return text.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return ""


def cpu_s(pid: int) -> float:
    """Processor seconds of all its threads so far, in steps of nanoseconds where the kernel counts
    them so. 0 once it is gone. Threads that ended are not counted."""
    total_ns = 0
    with suppress(*_GONE):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(*_GONE):
                total_ns += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        return total_ns / 1e9
    return 0.0


def total_cpu_s(pid: int) -> float:
    """Processor seconds in steps of a clock tick (10 ms), ended threads included."""
    fields = _fields(pid)
    return (int(fields[_UTIME]) + int(fields[_STIME])) * TICK_S if fields else 0.0


def num_open_files(pid: int) -> int:
    """Descriptors it holds open. Raises FileNotFoundError once it is gone."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_bytes(pid: int) -> int:
    """Memory it holds. Raises FileNotFoundError once it is gone."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, after the name; [] once it is gone."""
    with suppress(*_GONE):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
