"""Another client, at another address and in a process of its own: how long it waits while others
send what they send.

Waits are counted in the time for which the server had the processor, where that is less than the
time on the clock: what other programs take of the machine is not the server's doing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

# Asks every few milliseconds; a line on stdin asks for the longest wait since the line before.
_SCRIPT = """
import select, socket, sys, time
port, cpu = int(sys.argv[1]), int(sys.argv[2])
request = b"GET /health/live HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
sock = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.9", 0))
longest = 0.0
while True:
    began, began_cpu = time.perf_counter(), time.clock_gettime(cpu)
    sock.sendall(request)
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        part = sock.recv(65536)
        if not part:
            sys.exit("the server closed the connection")
        data += part
    on_clock, on_cpu = time.perf_counter() - began, time.clock_gettime(cpu) - began_cpu
    longest = max(longest, min(on_clock, on_cpu))
    if select.select([sys.stdin], [], [], 0.003)[0]:
        if not sys.stdin.readline():
            break
        print(longest, flush=True)
        longest = 0.0
"""


class Watcher:
    """Asks /health/live again and again until the block ends."""

    def __init__(self, port: int, pid: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(port), str(_clock(pid))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Watcher:
        self.longest_s()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def longest_s(self) -> float:
        """The longest that it waited for an answer since the last time it was asked."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        line = self._process.stdout.readline()
        assert line, "the watching client ended"
        return float(line)


def processor_s(pid: int) -> float:
    """What all threads of the process have used so far."""
    return time.clock_gettime(_clock(pid))


def _clock(pid: int) -> int:
    """The kernel's name for the processor time of another process (clock_getcpuclockid)."""
    return (~pid << 3) | 2


def reset_peak(pid: int) -> int:
    """Bytes that the process holds now; its peak counts from here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """The most that the process has held since `reset_peak`, in bytes."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)
