"""Runs what a step is made of, and makes the best of what fails: the forward once for each request,
both after giving up what is kept where memory is short. Tells a bad request from a broken device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from vlm_dlm.engine.prompt_cache import PromptCache
from vlm_dlm.engine.request_state import RequestState
from vlm_dlm.engine.rows import PackedRows
from vlm_dlm.engine.runner import Runner
from vlm_dlm.errors import EngineError

MAX_BAD_STEPS = 3
_FULL = ("out of memory", "can't allocate memory")


class Execution:
    """What fails for one request never ends another."""

    def __init__(self, runner: Runner, prompts: PromptCache) -> None:
        self.runner = runner
        self.prompts = prompts
        self.health = Health()

    def forward(self, packed: Sequence[PackedRows]) -> list[Tensor | Exception]:
        """Logits of each. If one forward for all fails, each runs alone, and those at fault get
        their error instead."""
        results: list[Tensor | Exception] = []
        try:
            results += self.runner.run(packed)
        except Exception as error:
            self._has_made_room(error)
        if not results:
            results += (self._alone(rows) for rows in packed)
        for result in results:
            self.health.note(result)
        return results

    def encode(self, state: RequestState) -> None:
        """One picture more. Raises what is wrong with it."""
        with self.health.noting():
            try:
                self._add_features(state)
            except Exception as error:
                if not self._has_made_room(error):
                    raise
                self._add_features(state)

    def end_step(self) -> None:
        """Raises EngineError if the device looks broken."""
        self.health.end_step()

    def _add_features(self, state: RequestState) -> None:
        """Give a request the features of its next images: those that are here, and at most one
        that must be computed."""
        images = state.request.prompt.images
        found: list[Tensor] = [] if state.features is None else [state.features]
        num_encoded, is_computed = state.num_encoded, False
        for image in images[num_encoded:]:
            if not self.runner.is_encoded(image):
                if is_computed:
                    break
                is_computed = True
            found.append(self.runner.encode(image))
            num_encoded += 1
        state.features, state.num_encoded = torch.cat(found), num_encoded
        if num_encoded == len(images):
            state.request = state.request.without_pixels()

    def _alone(self, rows: PackedRows) -> Tensor | Exception:
        try:
            return self.runner.run([rows])[0]
        except Exception as error:
            return error

    def _has_made_room(self, error: Exception) -> bool:
        """Whether memory was missing. Then what is kept for later requests is given up, so that
        those of now find some."""
        if not is_out_of_memory(error):
            return False
        error.__traceback__ = None  # its frames hold tensors
        self.prompts.clear()
        self.runner.free_unused()
        return True


class Health:
    """Counts steps in a row in which nothing could be run at all, not even one by one."""

    def __init__(self, max_bad_steps: int = MAX_BAD_STEPS) -> None:
        self.max_bad_steps = max_bad_steps
        self._num_bad = 0
        self._errors: list[Exception | None] = []

    def note(self, result: object) -> None:
        """What came of one piece of a step's work, an error or anything else."""
        self._errors.append(result if isinstance(result, Exception) else None)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what comes of the work inside, and raise it."""
        try:
            yield
        except Exception as error:
            self.note(error)
            raise
        self.note(None)

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
