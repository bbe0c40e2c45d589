"""A grammar as a rule of what may come next, over llguidance's matcher.

The grammar knows texts, not ends: any end token may come where the text so far is whole, and after
it nothing is said. Source: docs/structured.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vlm_dlm.decoding.filters import RowFilter, Trail
from vlm_dlm.errors import StructureError

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher
    from torch import Tensor

MAX_REASON_CHARS = 200
# By a byte of the matcher's mask: 0 is not allowed.
_BIASES = np.zeros(256, dtype=np.float32)
_BIASES[0] = -np.inf


class GrammarFilter(RowFilter):
    """Follows one answer from its beginning."""

    is_ordered: ClassVar[bool] = True

    def __init__(self, matcher: LLMatcher, ending_ids: frozenset[int], num_beyond: int = 0) -> None:
        """ending_ids: tokens that end the answer. num_beyond: tokens after an end, a place that is
        not filled, or a token that was not allowed: the matcher is not told of them."""
        self._matcher = matcher
        self._ending_ids = ending_ids
        self._num_beyond = num_beyond

    def bias(self, size: int, device: torch.device) -> Tensor | None:
        """Raises StructureError where the grammar takes more work than a step may have."""
        import torch

        if self._num_beyond:
            return None
        # A byte for each token, with the end tokens where the text is whole.
        mask = np.frombuffer(self._matcher.compute_logit_bias(), dtype=np.uint8)
        self._check()
        if size > len(mask):  # the rows are padded
            mask = np.pad(mask, (0, size - len(mask)))
        if not mask[:size].any():
            raise StructureError("the form of the answer cannot be followed: nothing may come next")
        return torch.from_numpy(_BIASES[mask[:size]]).to(device)

    def allows(self, token_id: int) -> bool:
        if self._num_beyond:
            return True
        if token_id in self._ending_ids:
            return self._matcher.is_accepting()
        is_allowed = self._matcher.validate_tokens([token_id]) == 1
        self._check()
        return is_allowed

    def push(self, tokens: Trail) -> None:
        for token in tokens:
            is_followed = False
            if token is not None and not self._num_beyond and token not in self._ending_ids:
                is_followed = self._matcher.try_consume_tokens([token]) == 1
                self._check()
            self._num_beyond += not is_followed

    def rollback(self, num: int) -> None:
        num_beyond = min(num, self._num_beyond)
        self._num_beyond -= num_beyond
        if num > num_beyond:
            self._matcher.rollback(num - num_beyond)

    def fork(self) -> GrammarFilter:
        return GrammarFilter(self._matcher.deep_copy(), self._ending_ids, self._num_beyond)

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = brief(self._matcher.get_error())
            raise StructureError(f"the form of the answer cannot be followed: {reason}")


def brief(reason: str) -> str:
    """What is wrong with a grammar, as it may be shown: the whole text may hold the grammar."""
    reason = reason.strip().split("\n", 1)[0][:MAX_REASON_CHARS]
    return "no text has this form" if reason.startswith("NoExtension") else reason
