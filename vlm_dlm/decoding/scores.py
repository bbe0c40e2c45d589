"""Log-probabilities of tokens, worked out for those alone that are told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlm_dlm.step import Logprobs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model gave all tokens, of one request.

    rows: logits [Q, V], nothing done to them.
    num: how many of the best to tell.
    """

    rows: Tensor
    num: int

    def of(self, row: int, token_id: int) -> Logprobs:
        """Of one token, and of the best at its place."""
        own = self.rows[row].float().log_softmax(dim=-1)
        if not self.num:
            return Logprobs(own[token_id].item())
        best: Any = own.topk(min(self.num, own.shape[-1]))
        ids: list[int] = best.indices.tolist()
        values: list[float] = best.values.tolist()
        return Logprobs(own[token_id].item(), tuple(zip(ids, values, strict=True)))


def scores_of(rows: Tensor, num_logprobs: int | None) -> Scores | None:
    """A copy of the rows, if anybody asks; to be taken before anything is done to them."""
    return None if num_logprobs is None else Scores(rows.clone(), num_logprobs)
