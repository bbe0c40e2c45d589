"""What failures say about the engine: a bad request, too little memory, or a broken device."""

from __future__ import annotations

import torch

from vlm_dlm.errors import EngineError

MAX_BAD_STEPS = 3
_FULL = ("out of memory", "can't allocate memory")


class Health:
    """Counts steps in a row in which nothing could be run at all, not even one by one."""

    def __init__(self, max_bad_steps: int = MAX_BAD_STEPS) -> None:
        self.max_bad_steps = max_bad_steps
        self._num_bad = 0
        self._errors: list[Exception | None] = []

    def note(self, result: object) -> None:
        """What came of one piece of a step's work, an error or anything else."""
        self._errors.append(result if isinstance(result, Exception) else None)

    def end_step(self) -> None:
        """Raises EngineError where the device looks broken: its errors stay until the process
        ends."""
        errors, self._errors = self._errors, []
        if not errors:
            return
        if any(error is None or is_out_of_memory(error) for error in errors):
            self._num_bad = 0
            return
        self._num_bad += 1
        if self._num_bad >= self.max_bad_steps:
            raise EngineError(f"nothing could be run in {self._num_bad} steps") from errors[-1]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is all that was missing, of the device or the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _FULL)
