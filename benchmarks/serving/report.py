"""What every report of these scripts has: where it was measured, and which claims held."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from tests.e2e.client import Connection, post
from tests.e2e.faults.check import Check
from tests.e2e.faults.disconnect import CHAT
from tests.e2e.server import Server
from tests.e2e.workload import chat


async def machine_figures(server: Server, key: str | None = None) -> dict[str, Any]:
    """Machine, device, dtype and threads behind a server, from one short answer of it.

    threads: what torch takes by default, which is the processors unless OMP_NUM_THREADS is set.
    """
    body = chat(is_streamed=False, max_tokens=1)
    async with await Connection.open(server.host, server.port) as connection:
        await connection.send(post(CHAT, body, key))
        reply = json.loads(await connection.body(await connection.head()))
    processors = len(os.sched_getaffinity(0))
    return {
        "revision": _revision(),
        "machine": platform.machine(),
        "processors": processors,
        "device": reply["metrics"]["device"],
        "dtype": reply["metrics"]["dtype"],
        "threads": int(os.environ.get("OMP_NUM_THREADS", processors)),
    }


def check_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Checks as plain values."""
    return [
        {"name": c.name, "is_passed": c.is_passed, "faults": c.faults, "figures": c.figures}
        for c in checks
    ]


def show_check(console: Console, check: Check) -> None:
    """One line: whether it held, and its figures."""
    verdict = "pass" if check.is_passed else f"FAIL ({'; '.join(check.faults)})"
    figures = ", ".join(f"{name} {value}" for name, value in check.figures.items())
    line = f"{verdict}: {check.name}" + (f" [{figures}]" if figures else "")
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_machine(console: Console, report: dict[str, Any]) -> None:
    """One line that says what the figures belong to."""
    console.print(
        f"{report['machine']}, {report['device']}, {report['dtype']}, "
        f"{report['threads']} threads of {report['processors']} processors, warm"
    )


def _revision() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
