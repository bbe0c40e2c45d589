"""Tests that measure time or memory run while no other test does, also with several workers.

Workers are processes, so they agree by locks on two files that are there anyway: whoever wants to
run passes the first, and holds the second, shared, while it runs. A test that is to be alone takes
the second for itself, and keeps the first until then, so that nobody passes it meanwhile. It keeps
both for the next one that is to be alone: each change over waits for the slowest of the others.
"""

from __future__ import annotations

import fcntl
from io import TextIOWrapper
from pathlib import Path

_DOOR, _ROOM = Path(__file__), Path(__file__).with_name("conftest.py")


class Turn:
    """Of one worker."""

    def __init__(self) -> None:
        self._room: TextIOWrapper | None = None
        self._is_alone = False

    def begin(self, is_alone: bool) -> None:
        """Waits until the test may run."""
        if self._room is not None and self._is_alone == is_alone:
            return
        self.end()
        with _DOOR.open() as door:
            room = _ROOM.open()
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
            fcntl.flock(door, fcntl.LOCK_UN)
        self._room, self._is_alone = room, is_alone

    def end(self, is_next_alone: bool = False) -> None:
        """The test is over. is_next_alone: so is the one that follows it here."""
        if self._room is None or (self._is_alone and is_next_alone):
            return
        fcntl.flock(self._room, fcntl.LOCK_UN)  # closing is not enough: a child may have it open
        self._room.close()
        self._room = None
