"""Entry point of the command line: what must hold before anything is imported.

A server can be told to end while it still imports, which takes seconds. Nothing has begun by then,
so that it just ends, as it does later: with exit code 0. The server's own handlers take over.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

ENDING = ("SIGTERM", "SIGINT", "SIGHUP")


def end_at_once() -> None:
    """From now on a signal that asks the process to end does so, without a word. One that whoever
    started us has switched off (`nohup`) stays off."""
    for name in ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)  # an exception would surface in the middle of some import


def main() -> None:
    """Entry point of the `vlm-dlm` script."""
    if sys.argv[1:2] == ["serve"]:
        end_at_once()
    from vlm_dlm.cli.main import main as run_command

    run_command()
