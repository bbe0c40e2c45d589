"""A server that is told to end before it serves, and by a terminal that closes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.processes import children
from tests.e2e.server import ROOT, Server, eventually
from vlm_dlm.cli.entry import ENDING

pytestmark = pytest.mark.alone

SIGNALS = [signal.Signals[name] for name in ENDING]
SOON_S = 5.0  # on a busy machine; mostly a tenth of a second


@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_it_ends_while_it_imports(number: signal.Signals) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLM_DLM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "vlm_dlm", "serve", "--port", "0"],
        cwd=ROOT, env=kept, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: _catches(process.pid, signal.SIGTERM), 30.0)
        process.send_signal(number)
        assert process.wait(SOON_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("settings", [{"page": True}, {"single_process": True}], ids=str)
def test_it_ends_while_it_loads(settings: dict[str, Any]) -> None:
    with Server(is_ready_wanted=False, **settings) as server:
        eventually(lambda: bool(children(server.pid)), 30.0)
        server.processes()
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait(30.0) == 0
        assert time.monotonic() - began < 2 * SOON_S
        eventually(lambda: not server.orphans(), SOON_S)
        assert "Traceback" not in server.log


def test_a_terminal_that_closes_lets_what_is_open_finish(scripted_server: Server) -> None:

    body = {"prompt": "Hi", "stream": True}
    lines: list[str] = []
    with httpx.stream(
        "POST", f"{scripted_server.base_url}/v1/generate", json=body, timeout=30.0
    ) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if len(lines) == 4:
                scripted_server.signal(signal.SIGHUP)
    assert "word59" in "".join(lines)
    assert scripted_server.wait() == 0


def test_where_hangups_are_switched_off_they_end_nothing() -> None:
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` leaves it to its child
    try:
        with Server(engine="scripted") as server:
            server.signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(1.0)
            assert server.stop() == 0
    finally:
        signal.signal(signal.SIGHUP, hangup)


def _catches(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(mask, 16) >> (number - 1) & 1)
