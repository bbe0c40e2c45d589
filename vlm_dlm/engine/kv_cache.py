"""The tensors that hold keys and values; whose slots are whose is told by `pages`."""

from __future__ import annotations

import math

import torch

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.engine.pages import PageTable
from vlm_dlm.errors import CapacityError


class KvCache:
    """The tensors: data is [layers, 2, num_slots, K, Dh]. Unwritten slots are never read."""

    def __init__(
        self, config: ModelConfig, num_slots: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (
            config.num_hidden_layers,
            2,
            num_slots,
            config.num_key_value_heads,
            config.head_dim,
        )
        # empty, not zeros: on a CPU the pages of memory come with the first write
        try:
            self.data = torch.empty(shape, device=device, dtype=dtype)
        except RuntimeError as error:  # also torch.OutOfMemoryError
            size = f"{math.prod(shape) * dtype.itemsize / 2**30:.1f} GiB on {device.type}"
            raise CapacityError(
                f"there is no memory for a cache of {num_slots} tokens ({size})"
            ) from error

    def copy(self, source: PageTable, target: PageTable, num_tokens: int) -> None:
        """Copy the first `num_tokens` slots of one table to another."""
        device = self.data.device
        slots = source.slots(device)[:num_tokens]
        self.data[:, :, target.slots(device)[:num_tokens]] = self.data[:, :, slots]
