"""Checkpoint configuration as frozen dataclasses: all that the model's arithmetic depends on.

Field values and their evidence are listed in `docs/checkpoint.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

VLM_TYPE = "nemotron_labs_diffusion_vlm"
TEXT_TYPE = "nemotron_labs_diffusion"


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """YaRN rotary embedding and the llama-4 query scale (`rope_parameters`)."""

    rope_theta: float = 1e6
    factor: float = 16.0
    original_max_position_embeddings: int = 16384
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 1.0
    llama_4_scaling_beta: float = 0.1


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Pixtral vision tower (`vision_config`)."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    head_dim: int = 64
    patch_size: int = 14
    num_channels: int = 3
    image_size: int = 1540
    hidden_act: str = "silu"
    rope_theta: float = 10000.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One checkpoint. `vision` is None for the text-only family members."""

    model_type: str = VLM_TYPE
    vocab_size: int = 131073
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 34
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int = 128
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 262144
    rope: RopeConfig = field(default_factory=RopeConfig)
    block_size: int = 32
    mask_token_id: int = 100
    eos_token_id: int = 11
    spatial_merge_size: int = 2
    projector_hidden_act: str = "gelu"
    vision: VisionConfig | None = field(default_factory=VisionConfig)
