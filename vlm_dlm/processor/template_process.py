"""A template of others, rendered in a child with hard limits: one that multiplies a text by a
billion, or loops for ever, fails its own request and costs others the processor seconds of one
text at most, and nobody memory. Blocking; any thread."""

from __future__ import annotations

import threading
from typing import Any

from vlm_dlm.errors import CheckpointError, UnavailableError
from vlm_dlm.limited_process import LimitedProcess
from vlm_dlm.processor.template_child import MAX_CHARS

CHILD = "vlm_dlm.processor.template_child"
MEMORY_BYTES = 2**29
CPU_S = 2
WALL_S = 10.0  # far above the processor's: it runs out where the machine is busy
START_S = 30.0
# JSON may write a character in twelve.
_MAX_REPLY_BYTES = 12 * MAX_CHARS + 1024
OVER_LIMIT = (
    f"the checkpoint's chat template takes more than {CPU_S} processor seconds "
    f"or {MEMORY_BYTES >> 20} MiB"
)


STARVED = "this server is too busy to render the chat template"


class TemplateProcess:
    """Starts at once, and again after a template has used up its limits."""

    def __init__(self, source: str) -> None:
        """Raises CheckpointError if `source` is not a valid template, UnavailableError where the
        system has no process left."""
        self._source = source
        self._lock = threading.Lock()
        self._child: LimitedProcess | None = None
        with self._lock:
            self._start()

    def render(self, values: dict[str, Any]) -> dict[str, str]:
        """`text`, or `refused` with the template's own reason, or `failed`. values: plain ones.

        Raises CheckpointError for what goes over a limit, UnavailableError where the machine
        gives the child too little of the processor, or no process.
        """
        if not self._lock.acquire(timeout=WALL_S):
            raise UnavailableError(STARVED)
        try:
            return self._ask(self._child or self._start(), values, WALL_S)
        finally:
            self._lock.release()

    def _ask(
        self, child: LimitedProcess, message: dict[str, Any], limit_s: float
    ) -> dict[str, str]:
        try:
            return child.ask(message, limit_s)
        except BaseException as error:  # part of a reply may be unread: the next would begin there
            self._child = None
            child.end()
            if isinstance(error, TimeoutError):
                raise UnavailableError(STARVED) from None
            if isinstance(error, OSError | EOFError | ValueError):
                raise CheckpointError(OVER_LIMIT) from None
            raise

    def _start(self) -> LimitedProcess:
        try:
            child = LimitedProcess(CHILD, MEMORY_BYTES, CPU_S, _MAX_REPLY_BYTES)
        except OSError:
            raise UnavailableError(STARVED) from None
        reply = self._ask(child, {"source": self._source}, START_S)
        if "failed" in reply:
            child.end()
            raise CheckpointError(reply["failed"])
        self._child = child
        return child
