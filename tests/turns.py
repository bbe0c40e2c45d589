"""Tests that measure time or memory run while no other test does, also with several workers.

Workers are processes, so they agree by locks on two files that are there anyway: whoever wants to
run passes the first, and holds the second, shared, while it runs. A test that is to be alone takes
the second for itself, and keeps the first until then, so that nobody passes it meanwhile.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DOOR, _ROOM = Path(__file__), Path(__file__).with_name("conftest.py")


@contextmanager
def turn(is_alone: bool) -> Iterator[None]:
    """Waits until the test may run."""
    with _DOOR.open() as door, _ROOM.open() as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:  # closing is not enough where a child of the test has the file open
            fcntl.flock(room, fcntl.LOCK_UN)
