"""The whole network: vision encoder, text decoder and vocabulary head.

Owns no cache, no positions and no prompt layout; callers splice image features into the token
embeddings and hand in attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.lora import AdapterRows
from vlm_dlm.model.rotary import RotaryInputs
from vlm_dlm.model.text_decoder import Attention, TextDecoder
from vlm_dlm.model.vision import VisionEncoder


class VlmModel(nn.Module):
    """Every mode runs on these weights; `diffusion_head` is the head of all of them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = TextDecoder(config)
        self.vision = None if config.vision is None else VisionEncoder(config)
        self.diffusion_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # Set when weights are offloaded: their parameters then sit on the meta device.
        self.main_device: torch.device | None = None
        # Scheme of the layers' matrices, None where they are plain.
        self.quantize: str | None = None

    @property
    def device(self) -> torch.device:
        """Where inputs go and outputs come from."""
        return self.main_device or self.diffusion_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of weights and activations."""
        return self.diffusion_head.weight.dtype

    @property
    def has_draft_adapter(self) -> bool:
        """A draft adapter is loaded (all layers have one, or none)."""
        first: Any = self.decoder.layers[0]
        return first.self_attn.draft_lora is not None

    def embed(self, token_ids: Tensor) -> Tensor:
        """token_ids int64 [..., T] -> [..., T, D]."""
        return self.decoder.embed_tokens(token_ids)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, 28h, 28w] of one size -> [N, h * w, D]."""
        if self.vision is None:
            raise CheckpointError("this checkpoint has no vision tower; send text only")
        return self.vision(pixels)

    def hidden(
        self,
        embeds: Tensor,
        rotary: RotaryInputs,
        attend: Attention,
        adapter: AdapterRows | None = None,
    ) -> Tensor:
        """embeds [..., T, D] -> normed hidden states [..., T, D]."""
        return self.decoder(embeds, rotary, attend, adapter)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> [..., V]."""
        return self.diffusion_head(hidden)
