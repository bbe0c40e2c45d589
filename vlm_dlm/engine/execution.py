"""Runs what a step is made of, and makes the best of what fails: the forward once for each request,
both after giving up what is kept where memory is short. Nothing in here raises but `end_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from vlm_dlm.engine.features import FeatureCache
from vlm_dlm.engine.health import Health, is_out_of_memory
from vlm_dlm.engine.model_runner import ModelRunner
from vlm_dlm.engine.packing import PackedRows
from vlm_dlm.engine.prompt_cache import PromptCache
from vlm_dlm.engine.sequence import Sequence as Request

ArgT = TypeVar("ArgT")
ResultT = TypeVar("ResultT")


class Execution:
    """Errors are handed back as values, so that each ends the request it belongs to."""

    def __init__(self, runner: ModelRunner, features: FeatureCache, prompts: PromptCache) -> None:
        self.runner = runner
        self.features = features
        self.prompts = prompts
        self.health = Health()

    def forward(self, packed: Sequence[PackedRows]) -> list[Tensor | Exception]:
        """Logits of each. If one forward for all fails, each runs alone, so that only the one at
        fault ends."""
        together = _try(self.runner.run, packed)
        if isinstance(together, Exception):
            if is_out_of_memory(together):
                together.__traceback__ = None  # its frames hold tensors
                self._make_room()
            results = [self._alone(rows) for rows in packed]
        else:
            results = list[Tensor | Exception](together)
        for result in results:
            self.health.note(result)
        return results

    def encode(self, request: Request) -> Exception | None:
        """One picture more."""
        error = _try(self.features.advance, request)
        if error is not None and is_out_of_memory(error):
            error.__traceback__ = None
            self._make_room()
            error = _try(self.features.advance, request)
        self.health.note(error)
        return error

    def end_step(self) -> None:
        """Raises EngineError if the device looks broken."""
        self.health.end_step()

    def _alone(self, rows: PackedRows) -> Tensor | Exception:
        result = _try(self.runner.run, [rows])
        return result if isinstance(result, Exception) else result[0]

    def _make_room(self) -> None:
        """Give up what is kept for later requests, so that those of now find memory."""
        self.features.clear()
        self.prompts.clear()
        self.runner.free_unused()


def _try(work: Callable[[ArgT], ResultT], argument: ArgT) -> ResultT | Exception:
    try:
        return work(argument)
    except Exception as error:
        return error
