"""A child with hard limits that answers questions, JSON for JSON; started again by its owner after
one that it could not answer. Blocking; any thread, one question at a time."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import weakref
from contextlib import suppress
from time import monotonic
from typing import Any

from vlm_dlm.limited_child import start_child

LENGTH = struct.Struct(">I")


class LimitedProcess:
    """One process and our end of the socket that is its standard input and output."""

    def __init__(self, module: str, memory_bytes: int, cpu_s: int, max_reply_bytes: int) -> None:
        """module: run with its limits as arguments; speaks by `read` and `write`.

        Raises OSError where the system has no process left.
        """
        self._max_reply_bytes = max_reply_bytes
        process, self._socket = start_child(module, memory_bytes, cpu_s)
        self.end = weakref.finalize(self, _end, process, self._socket)

    def ask(self, message: dict[str, Any], limit_s: float) -> dict[str, str]:
        """Raises OSError, EOFError or ValueError where there is no answer."""
        ends_s = monotonic() + limit_s
        body = json.dumps(message).encode()
        self._socket.settimeout(limit_s)
        self._socket.sendall(LENGTH.pack(len(body)) + body)
        (num_bytes,) = LENGTH.unpack(self._read(LENGTH.size, ends_s))
        if num_bytes > self._max_reply_bytes:
            raise ValueError
        return json.loads(self._read(num_bytes, ends_s))

    def _read(self, num_bytes: int, ends_s: float) -> bytes:
        data = bytearray()
        while len(data) < num_bytes:
            self._socket.settimeout(max(0.001, ends_s - monotonic()))
            piece = self._socket.recv(min(num_bytes - len(data), 2**20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)


def read() -> dict[str, Any]:
    """In the child: the next question; empty at the end."""
    head = sys.stdin.buffer.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return {}
    return json.loads(sys.stdin.buffer.read(*LENGTH.unpack(head)))


def write(reply: dict[str, str]) -> None:
    """In the child: the answer to it."""
    body = json.dumps(reply).encode()
    sys.stdout.buffer.write(LENGTH.pack(len(body)) + body)
    sys.stdout.buffer.flush()


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()
