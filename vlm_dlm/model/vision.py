"""Images to decoder embeddings: tower, then projector."""

from __future__ import annotations

from torch import Tensor, nn

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.pixtral import PixtralTower
from vlm_dlm.model.projector import Projector


class VisionEncoder(nn.Module):
    """One feature vector of the decoder's width per merged cell of patches, in raster order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.vision is None:
            raise CheckpointError("this checkpoint has no vision tower")
        self.config = config.vision
        self.vision_tower = PixtralTower(config.vision)
        self.multi_modal_projector = Projector(config, config.vision)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, 28h, 28w] of one size -> [N, h * w, D]."""
        rows, columns = (side // self.config.patch_size for side in pixels.shape[-2:])
        return self.multi_modal_projector(self.vision_tower(pixels), rows, columns)
