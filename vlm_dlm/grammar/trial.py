"""Structures of others, tried in a child with hard limits before an engine compiles them: one that
takes too much fails its own request, and costs others the processor seconds of one at most."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vlm_dlm.errors import StructureError, UnavailableError
from vlm_dlm.grammar.compiler import TokenTable
from vlm_dlm.limited_process import LimitedProcess
from vlm_dlm.structure import Structure

CHILD = "vlm_dlm.grammar.child"
MEMORY_BYTES = 2**30  # of address space
CPU_S = 2
WALL_S = 10.0  # far above the processor's: it runs out where the machine is busy
START_S = 30.0
MAX_KNOWN = 256
_MAX_REPLY_BYTES = 2**16
OVER_LIMIT = f"takes more than {CPU_S} processor seconds or {MEMORY_BYTES >> 20} MiB"
STARVED = "this server is too busy to read the structure of the answer"


class GrammarTrial:
    """Starts its child with the first structure. Blocking; any thread."""

    def __init__(self, tokens: TokenTable, vocab_size: int, ending_ids: frozenset[int]) -> None:
        self._tokens = tokens
        self._vocab_size = vocab_size
        self._ending_ids = ending_ids
        # For callers on an event loop: they wait here, and not in threads that others need.
        self.threads = ThreadPoolExecutor(1, "vlm-dlm-structures")
        self._lock = threading.Lock()  # around the child
        self._knowing = threading.Lock()  # around what is known
        self._child: LimitedProcess | None = None
        # What is wrong with each, None for nothing.
        self._known: OrderedDict[Structure, str | None] = OrderedDict()

    def check(self, structure: Structure) -> None:
        """Raises StructureError for one that cannot be used, UnavailableError where the machine
        gives the child too little of the processor, or no process."""
        if self.is_known(structure):
            return
        if not self._lock.acquire(timeout=WALL_S):
            raise UnavailableError(STARVED)
        try:
            if not self.is_known(structure):  # nobody has asked meanwhile
                self._keep(structure, self._reason(structure))
        finally:
            self._lock.release()
        self.is_known(structure)

    def is_known(self, structure: Structure) -> bool:
        """Whether it was found good before; at once. Raises StructureError if it was not."""
        with self._knowing:
            if structure not in self._known:
                return False
            self._known.move_to_end(structure)
            reason = self._known[structure]
        if reason is not None:
            raise StructureError(reason)
        return True

    def close(self) -> None:
        """End the child, if there is one; whoever waits for it gets an error."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        child = self._child
        if child is not None:
            child.end()

    def _keep(self, structure: Structure, reason: str | None) -> None:
        with self._knowing:
            self._known[structure] = reason
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def _reason(self, structure: Structure) -> str | None:
        """A child that was there may have been ended from outside, as where memory is short: only
        what ends a fresh one as well is to blame."""
        is_fresh = self._child is None
        message = {"kind": structure.kind, "source": structure.source}
        child = self._child or self._start()
        try:
            return child.ask(message, WALL_S).get("refused")
        except BaseException as error:  # part of a reply may be unread: the next would begin there
            self._child = None
            child.end()
            if isinstance(error, TimeoutError):
                raise UnavailableError(STARVED) from None
            if not isinstance(error, OSError | EOFError | ValueError):
                raise
        return f"the {structure.title} {OVER_LIMIT}" if is_fresh else self._reason(structure)

    def _start(self) -> LimitedProcess:
        try:
            child = LimitedProcess(CHILD, MEMORY_BYTES, CPU_S, _MAX_REPLY_BYTES)
        except OSError:
            raise UnavailableError(STARVED) from None
        try:
            child.ask(self._introduction(), START_S)
        except (OSError, EOFError, ValueError):
            child.end()
            raise UnavailableError(STARVED) from None
        self._child = child
        return child

    def _introduction(self) -> dict[str, Any]:
        tokens = (self._tokens.token_bytes(i, False) for i in range(self._vocab_size))
        return {
            "tokens": [base64.b64encode(token).decode("ascii") for token in tokens],
            "reserved": sorted(self._tokens.reserved_ids),
            "eos": sorted(self._ending_ids),
        }
