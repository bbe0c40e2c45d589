"""Image features by content: the same picture is encoded once, whoever sends it."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from vlm_dlm.errors import EngineError
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import ImageInput


class FeatureCache:
    """Encodes images, least recently used features go first."""

    def __init__(self, model: VlmModel, max_entries: int) -> None:
        self.model = model
        self.max_entries = max_entries
        self._entries: OrderedDict[str, Tensor] = OrderedDict()

    def __contains__(self, image: ImageInput) -> bool:
        return image.content_hash in self._entries

    @property
    def num_entries(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Free everything."""
        self._entries.clear()

    def encode(self, image: ImageInput) -> Tensor:
        """[num_tokens, D]"""
        entry = self._entries.get(image.content_hash)
        if entry is None:
            pixels = torch.as_tensor(image.pixels).to(self.model.device, self.model.dtype)
            entry = self.model.encode_images(pixels[None])[0]  # [h * w, D]
            if entry.shape[0] != image.num_tokens:
                raise EngineError(
                    f"an image gave {entry.shape[0]} features for {image.num_tokens} placeholders"
                )
            self._entries[image.content_hash] = entry
        self._entries.move_to_end(image.content_hash)
        while len(self._entries) > self.max_entries:
            self._entries.popitem(last=False)
        return entry
