"""The memory that this process may use: of the machine, or of its control group if that is less;
and what of it is free.

Free of torch. Containers limit their memory by control groups, of version 1 or 2; the limit of any
group above counts as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
# A limit above this is none: version 1 writes the largest number there is.
_NO_LIMIT = 2**60


@dataclass(frozen=True, slots=True)
class _Version:
    """Where one version keeps its groups and what its files are called."""

    root: str
    limit: str
    used: str
    unused: str


_V1 = _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Version("", "memory.max", "memory.current", "inactive_file")


def memory_limit() -> int | None:
    """Bytes in all, None where that cannot be told."""
    limits = [limit for limit, _ in _groups()]
    with suppress(AttributeError, OSError, ValueError):  # not on every system
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def free_memory() -> int | None:
    """Bytes that are free, of the machine or of the group, None where that cannot be told."""
    found = (_free_in_machine(), free_in_groups())
    return min((free for free in found if free is not None), default=None)


def free_in_groups() -> int | None:
    """Bytes that the limits leave, None without any. Cached file pages count as used there, but
    are given up on demand."""
    return min((max(0, limit - used) for limit, used in _groups()), default=None)


def _free_in_machine() -> int | None:
    with suppress(OSError, ValueError):  # not on every system
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _groups() -> Iterator[tuple[int, int]]:
    """Limit and use of every limited group that this process is in."""
    for version, path in _memberships():
        root = CGROUP / version.root
        folder = root / path.lstrip("/")
        if not folder.is_dir():  # a container may see its own group as the root
            folder = root
        while True:
            with suppress(OSError, ValueError):  # no such limit, or "max"
                limit = int((folder / version.limit).read_text())
                if limit < _NO_LIMIT:
                    yield limit, _used(folder, version)
            if folder == root:
                break
            folder = folder.parent


def _memberships() -> list[tuple[_Version, str]]:
    found: list[tuple[_Version, str]] = []
    with suppress(OSError):
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                found.append((_V2, path))
            elif "memory" in controllers.split(","):
                found.append((_V1, path))
    return found or [(_V2, "/"), (_V1, "/")]


def _used(folder: Path, version: _Version) -> int:
    with suppress(OSError, ValueError):
        lines = (folder / "memory.stat").read_text().splitlines()
        pages = dict(line.split() for line in lines)
        idle = int(pages.get(version.unused, pages.get("inactive_file", 0)))
        return int((folder / version.used).read_text()) - idle
    return 0
