"""A server whose messages nobody reads any more."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

LIMIT_S = 60


def test_it_ends_like_any_other() -> None:
    command = [sys.executable, "-m", "vlm_dlm", "serve", "--port", "0", "--no-page"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            said = next((line for line in server.stderr if line.startswith("Ready")), "")
            assert said, "it never was ready"
            server.stderr.close()
            server.send_signal(signal.SIGTERM)
            assert server.wait(LIMIT_S) == 0
        finally:
            server.kill()
