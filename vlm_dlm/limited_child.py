"""Starts a child of ours that reads what is not trusted; `confinement.py` is what it does to itself
first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import vlm_dlm

# Of the environment only what the interpreter needs to start: no secrets.
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PATH", "TZ")


def start_child(
    module: str, memory_bytes: int, cpu_s: int, variables: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process, and our end of the socket that is its standard input and output.

    module: run with its limits as arguments. variables: of its environment, beside those kept.
    Raises OSError where the system has no process or no socket left.
    """
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment["PYTHONPATH"] = str(Path(vlm_dlm.__file__).parent.parent)
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(memory_bytes), str(cpu_s)],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**environment, **(variables or {})},
            start_new_session=True,  # an interrupt at the terminal is for the server alone
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours
