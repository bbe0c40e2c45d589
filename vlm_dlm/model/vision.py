"""Images to decoder embeddings: the Pixtral tower, then the Mistral-3 projector.

The modules come from transformers; calling their parts directly keeps images apart by the batch
dimension, so no mask over all patches of all images is ever built.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlm_dlm.checkpoint.config import ModelConfig, VisionConfig
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.quiet import quiet_imports


class VisionEncoder(nn.Module):
    """One feature vector of the decoder's width per merged cell of patches, in raster order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.vision is None:
            raise CheckpointError("this checkpoint has no vision tower")
        self.config = config.vision
        self.vision_tower, self.multi_modal_projector = _build_parts(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, 28h, 28w] of one size -> [N, h * w, D]."""
        tower, patch = self.vision_tower, self.config.patch_size
        x = tower.patch_conv(pixels.to(tower.patch_conv.weight.dtype))  # [N, C, 2h, 2w]
        rows, columns = x.shape[-2:]
        x = tower.ln_pre(x.flatten(2).transpose(1, 2))  # [N, P, C]
        tables = axial_rotary_tables(self.config, rows, columns, x)
        x = tower.transformer(x, attention_mask=None, position_embeddings=tables)[0]  # [N, P, C]
        sizes = [(rows * patch, columns * patch)] * len(x)
        features = self.multi_modal_projector(x.flatten(0, 1), sizes)  # [N * h * w, D]
        return features.unflatten(0, (len(x), -1))


def axial_rotary_tables(
    vision: VisionConfig, rows: int, columns: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """cos and sin, each [rows * columns, head_dim], in the dtype and on the device of `like`.

    Even frequencies turn with the row, odd ones with the column. Own tables, because the tower's
    are a buffer that no checkpoint stores and whose shape changed between transformers versions.
    """
    exponents = torch.arange(0, vision.head_dim, 2, device=like.device).float() / vision.head_dim
    frequencies = 1.0 / vision.rope_theta**exponents  # [Dh / 2]
    row = torch.arange(rows, device=like.device).float()
    column = torch.arange(columns, device=like.device).float()
    by_row = torch.outer(row, frequencies[0::2])  # [rows, Dh / 4]
    by_column = torch.outer(column, frequencies[1::2])  # [columns, Dh / 4]
    angles = torch.cat(
        (by_row.repeat_interleave(columns, dim=0), by_column.repeat(rows, 1)), dim=-1
    )  # [rows * columns, Dh / 2]
    angles = torch.cat((angles, angles), dim=-1)  # [rows * columns, Dh]
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _build_parts(config: ModelConfig) -> tuple[Any, Any]:
    # Imported here: transformers takes seconds, and text-only checkpoints never need it.
    with quiet_imports():
        from transformers import Mistral3Config, PixtralVisionModel
        from transformers.models.mistral3.modeling_mistral3 import Mistral3MultiModalProjector

    tower: Any = PixtralVisionModel(pixtral_config(config))
    tower.patch_positional_embedding = nn.Identity()  # replaced by `axial_rotary_tables`
    joint = Mistral3Config(
        # Not the tower's own object: a composite config resets the attention choice of its parts.
        vision_config=pixtral_config(config),
        text_config={
            "model_type": "ministral3",
            "hidden_size": config.hidden_size,
            "rms_norm_eps": config.rms_norm_eps,
        },
        spatial_merge_size=config.spatial_merge_size,
        projector_hidden_act=config.projector_hidden_act,
        multimodal_projector_bias=False,
        vision_feature_layer=-1,
    )
    return tower, Mistral3MultiModalProjector(joint)


def pixtral_config(config: ModelConfig) -> Any:
    """The transformers config of our vision tower."""
    from transformers import PixtralVisionConfig

    vision = config.vision
    assert vision is not None
    # transformers 5.23 calls this embedding 'axial'; earlier releases called it 'default'.
    rope_type = getattr(PixtralVisionConfig, "default_rope_type", "default")
    # `strict` configs hide their base class's keywords from type checkers.
    build: Any = PixtralVisionConfig
    return build(
        hidden_size=vision.hidden_size,
        intermediate_size=vision.intermediate_size,
        num_hidden_layers=vision.num_hidden_layers,
        num_attention_heads=vision.num_attention_heads,
        num_channels=vision.num_channels,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        hidden_act=vision.hidden_act,
        rope_parameters={"rope_theta": vision.rope_theta, "rope_type": rope_type},
        attn_implementation="sdpa",
    )
