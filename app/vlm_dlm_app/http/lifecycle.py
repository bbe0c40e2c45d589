"""Whether the server takes new work, and how much of it is still open."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from vlm_dlm.errors import UnavailableError
from vlm_dlm.serving.engine_state import ENDING_S

DRAINING = "the server is shutting down and takes no new requests"
ENDED = "the server is shutting down and ended this request before there was an answer"


@dataclass(slots=True, eq=False)
class OpenRequest:
    """One that does work, and the task it runs in. has_begun: whether its answer has."""

    task: asyncio.Task[object]
    has_begun: bool = False
    is_ended: bool = False


class Lifecycle:
    """Knows the requests that do work. `close_door`: no new ones. `wait_idle`: until all are over.
    `end_unanswered`: those that wait for nobody's last event."""

    def __init__(self) -> None:
        self.is_draining = False
        self._open: set[OpenRequest] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._end_s = 0.0

    @property
    def num_open(self) -> int:
        return len(self._open)

    @property
    def retry_after_s(self) -> int:
        """While draining: whole seconds until another server may stand here."""
        return max(ENDING_S, math.ceil(self._end_s - monotonic()))

    @contextmanager
    def request(self) -> Generator[OpenRequest]:
        """A request from its begin to its end, in the task that runs this.

        Raises UnavailableError in place of the cancellation by `end_unanswered`.
        """
        task = asyncio.current_task()
        assert task is not None
        opened = OpenRequest(task)
        self._open.add(opened)
        self._idle.clear()
        try:
            yield opened
        except asyncio.CancelledError:
            if not opened.is_ended:
                raise
            task.uncancel()
            raise UnavailableError(ENDED, self.retry_after_s) from None
        finally:
            self._open.discard(opened)
            if not self._open:
                self._idle.set()

    def close_door(self, grace_s: float = 0.0) -> None:
        """From now on new requests are refused. There is no way back. grace_s: seconds for those
        that are open."""
        self.is_draining = True
        self._end_s = monotonic() + grace_s

    def end_unanswered(self) -> None:
        """End every request whose answer has not begun, wherever it is: with its body half read,
        or its images half decoded."""
        for opened in self._open:
            if not opened.has_begun and not opened.is_ended:
                opened.is_ended = True
                opened.task.cancel()

    async def wait_idle(self, limit_s: float) -> bool:
        """Return once nothing is open. False if that took longer."""
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
