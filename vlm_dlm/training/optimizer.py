"""Muon on matrices, AdamW on embeddings, heads and norms, and the learning-rate schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vlm_dlm.training.recipe import Recipe


class OptimizerPair:
    """Both optimizers behind one interface. Parameters that need no gradient are left out."""

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        recipe: Recipe,
        muon_lr: float,
        slow_prefix: str = "none",
        slow_factor: float = 1.0,
    ) -> None:
        """Parameters whose name begins with `slow_prefix` learn at `slow_factor` times the rate."""
        trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        self.parameters = [parameter for _, parameter in trained]
        self.clip_norm = recipe.clip_norm
        self._flat: list[tuple[nn.Parameter, nn.Parameter]] = []
        matrices, others = [], []
        for is_slow in (False, True):
            factor = slow_factor if is_slow else 1.0
            part = [item for item in trained if item[0].startswith(slow_prefix) == is_slow]
            matrix = [self._as_matrix(value) for name, value in part if _is_matrix(name, value)]
            other = [value for name, value in part if not _is_matrix(name, value)]
            matrices += [{"params": matrix, "base_lr": muon_lr * factor}] if matrix else []
            others += [{"params": other, "base_lr": recipe.adam_lr * factor}] if other else []
        muon = torch.optim.Muon(
            matrices, momentum=recipe.muon_momentum, weight_decay=recipe.muon_weight_decay
        )
        adam = torch.optim.AdamW(others, betas=recipe.adam_betas, weight_decay=0.0, fused=True)
        self._optimizers = (muon, adam)

    def _as_matrix(self, parameter: nn.Parameter) -> nn.Parameter:
        """The parameter, or for a kernel [out, ...] a twin [out, in] in the same memory: Muon takes
        matrices only."""
        if parameter.dim() == 2:
            return parameter
        flat = nn.Parameter(parameter.detach().view(len(parameter), -1))
        self._flat.append((parameter, flat))
        return flat

    def step(self, factor: float) -> float:
        """Clip, update with both learning rates times `factor`, and return the gradient's norm."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        for kernel, flat in self._flat:
            flat.grad = None if kernel.grad is None else kernel.grad.flatten(1)
            kernel.grad = None
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Hidden-to-hidden products; tables and heads have rows that are updated unevenly."""
    is_table = "embed_tokens" in name or "head" in name.split(".")[0]
    return parameter.dim() >= 2 and not is_table


def lr_factor(recipe: Recipe, step: int, progress: float) -> float:
    """Warm-up by steps, then constant, then linear decay by `progress` (0 to 1) of the budget."""
    warmup = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    left = (1.0 - progress) / (1.0 - recipe.constant_share)
    return warmup * max(recipe.final_lr_factor, min(1.0, left))
