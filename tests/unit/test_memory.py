"""What memory may be used: limits of both versions of control groups, of any group above."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.memory_group import MemoryGroup, NoGroups
from vlm_dlm import memory

GIB = 2**30
LIMITS = {1: "memory.limit_in_bytes", 2: "memory.max"}
USED = {1: "memory.usage_in_bytes", 2: "memory.current"}
IDLE = {1: "total_inactive_file", 2: "inactive_file"}
LINES = {1: "4:memory:{}\n0::/\n", 2: "0::{}\n"}


class Tree:
    """A made-up /sys/fs/cgroup that this process believes in."""

    def __init__(self, version: int, path: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.version = version
        self.root = folder / "memory" if version == 1 else folder
        (folder / "membership").write_text(LINES[version].format(path))
        self.root.mkdir(exist_ok=True)
        patch.setattr(memory, "CGROUP", folder)
        patch.setattr(memory, "MEMBERSHIP", folder / "membership")

    def limit(self, path: str, limit: str, used: int = 0, idle: int = 0) -> None:
        group = self.root / path
        group.mkdir(parents=True, exist_ok=True)
        (group / LIMITS[self.version]).write_text(f"{limit}\n")
        (group / USED[self.version]).write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 1\n{IDLE[self.version]} {idle}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_limit_of_all_groups_above_counts(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(version, "/slice/unit", tmp_path, monkeypatch)
    tree.limit("slice/unit", str(2 * GIB), used=GIB, idle=GIB // 2)
    tree.limit("slice", str(GIB), used=GIB // 4)
    assert memory.memory_limit() == GIB
    assert memory.free_in_groups() == 3 * GIB // 4
    tree.limit("slice", "max" if version == 2 else "9223372036854771712")
    assert memory.memory_limit() == 2 * GIB
    assert memory.free_in_groups() == 3 * GIB // 2


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_sees_its_group_as_the_root(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(version, "/docker/0123456789ab", tmp_path, monkeypatch)
    tree.limit("", str(GIB), used=GIB // 4)
    assert memory.memory_limit() == GIB
    assert memory.free_in_groups() == 3 * GIB // 4


def test_what_is_free_is_the_smaller_of_machine_and_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(2, "/unit", tmp_path, monkeypatch)
    tree.limit("unit", str(4 * GIB), used=GIB)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.free_memory() == 3 * GIB, "the machine does not say"
    for free in (2 * GIB, 5 * GIB):
        memory.MEMINFO.write_text(f"MemTotal: 1 kB\nMemAvailable:   {free // 1024} kB\n")
        assert memory.free_memory() == min(free, 3 * GIB)


def test_without_limits_it_is_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "none")
    limit = memory.memory_limit()
    assert limit is None or limit > 10**8
    assert memory.free_in_groups() is None


def test_a_real_group_is_seen() -> None:
    try:
        group = MemoryGroup(GIB)
    except NoGroups as error:
        pytest.skip(str(error))
    script = "from vlm_dlm.memory import memory_limit; print(memory_limit())"
    with group:
        found = subprocess.run(
            [sys.executable, "-c", script],
            preexec_fn=group.enter,
            capture_output=True,
            text=True,
            check=True,
        )
    assert int(found.stdout) == GIB
