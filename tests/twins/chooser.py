"""pick(l) of docs/decoding.md, section 0, with random numbers in the order the product draws them.

One float64 uniform per row of a forward, from a generator of the request's own: with the same seed
a twin and the engine then draw the same tokens, although they share no sampling code.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Chooser:
    """T = 0: argmax, lowest id on ties. T > 0: inverse-CDF draw from softmax(l / T).

    banned: an id that is never chosen; None follows the reference, which bans nothing.
    """

    def __init__(self, temperature: float = 0.0, seed: int = 0, banned: int | None = None) -> None:
        self.temperature = temperature
        self.banned = banned
        self._generator = torch.Generator().manual_seed(seed)

    def allowed(self, logits: Tensor) -> Tensor:
        """logits [Q, V] without the banned id."""
        logits = logits.clone()
        if self.banned is not None:
            logits[:, self.banned] = float("-inf")
        return logits

    def pick(self, logits: Tensor) -> list[int]:
        """One id per row of logits [Q, V]."""
        rows = self.allowed(logits)
        if self.temperature == 0.0:
            return [int((row == row.max()).nonzero()[0]) for row in rows]
        uniforms = torch.rand(len(rows), generator=self._generator, dtype=torch.float64)
        probs = (rows.double() / self.temperature).softmax(-1)  # [Q, V]
        picked = []
        for u, row in zip(uniforms.tolist(), probs.tolist(), strict=True):
            total, chosen = 0.0, -1
            for token, p in enumerate(row):
                if p > 0.0:
                    total, chosen = total + p, token
                if total > u:
                    break
            picked.append(chosen)
        return picked

    def plain_confidence(self, logits: Tensor, chosen: list[int]) -> Tensor:
        """Probability [Q] of the chosen ids without temperature, in the logits' own dtype."""
        probs = self.allowed(logits).softmax(-1)
        return probs[torch.arange(len(chosen)), chosen]

    def drawn_confidence(self, logits: Tensor, chosen: list[int]) -> Tensor:
        """Probability [Q] under the distribution the ids were drawn from."""
        divisor = self.temperature or 1.0
        return self.plain_confidence(logits / divisor, chosen)
