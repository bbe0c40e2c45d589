"""The same weights in transformers' Mistral3ForConditionalGeneration, an independent decoder."""

from __future__ import annotations

from typing import Any

import torch

from vlm_dlm.checkpoint.config import ModelConfig, RopeConfig, VisionConfig
from vlm_dlm.checkpoint.model_types import expected_tensors
from vlm_dlm.model.vlm import VlmModel

IMAGE_TOKEN_ID = 19

# Checkpoint prefix -> transformers prefix; vision and projector before the general encoder rule.
RENAMES = (
    ("encoder.vision_tower.", "model.vision_tower."),
    ("encoder.multi_modal_projector.", "model.multi_modal_projector."),
    ("encoder.", "model.language_model."),
    ("diffusion_head.", "lm_head."),
)
IMAGE_PREFIXES = ("model.vision_tower.", "model.multi_modal_projector.")


def tiny_config(**changes: Any) -> ModelConfig:
    """Small widths, all features: 40 tokens already pass two rotary periods."""
    defaults: dict[str, Any] = {
        "vocab_size": 160,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "rope": RopeConfig(original_max_position_embeddings=16, factor=4.0),
        "vision": VisionConfig(
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=2,
            head_dim=16,
            image_size=140,
        ),
    }
    return ModelConfig(**{**defaults, **changes})


def mistral3_twin(model: VlmModel) -> Any:
    """A float32 Mistral3ForConditionalGeneration in eval mode with a copy of `model`'s weights."""
    from transformers import Mistral3ForConditionalGeneration

    twin = Mistral3ForConditionalGeneration(mistral3_config(model.config))
    state = {_twin_name(name): value for name, value in checkpoint_tensors(model).items()}
    # Only a text model leaves parts of the twin unfilled, and then exactly the image path.
    missing, unexpected = twin.load_state_dict(state, strict=False)
    text_only = model.config.vision is None
    assert not unexpected, unexpected
    assert all(text_only and name.startswith(IMAGE_PREFIXES) for name in missing), missing
    return twin.float().eval().requires_grad_(False)


def checkpoint_tensors(model: VlmModel) -> dict[str, torch.Tensor]:
    """Weights under the checkpoint's names, split by hand so as not to rely on the loader."""
    config, state = model.config, dict(model.named_parameters())
    query = config.num_attention_heads * config.head_dim
    key = config.num_key_value_heads * config.head_dim
    hidden = config.intermediate_size
    slices = {
        "q_proj": ("qkv_proj", slice(0, query)),
        "k_proj": ("qkv_proj", slice(query, query + key)),
        "v_proj": ("qkv_proj", slice(query + key, query + 2 * key)),
        "gate_proj": ("gate_up_proj", slice(0, hidden)),
        "up_proj": ("gate_up_proj", slice(hidden, 2 * hidden)),
    }
    tensors = {}
    for name in expected_tensors(config):
        if name.startswith("encoder.layers.") and name.split(".")[-2] in slices:
            leaf = name.split(".")[-2]
            fused, rows = slices[leaf]
            own = name.replace("encoder.", "decoder.", 1).replace(f".{leaf}.", f".{fused}.")
            tensors[name] = state[own].detach()[rows]
        elif name.startswith(("encoder.vision_tower.", "encoder.multi_modal_projector.")):
            tensors[name] = state[name.replace("encoder.", "vision.", 1)].detach()
        else:
            tensors[name] = state[name.replace("encoder.", "decoder.", 1)].detach()
    return tensors


def _twin_name(name: str) -> str:
    old, new = next(pair for pair in RENAMES if name.startswith(pair[0]))
    return new + name.removeprefix(old)


def mistral3_config(config: ModelConfig) -> Any:
    """The transformers config of the same network; several class defaults differ."""
    from transformers import Mistral3Config

    rope = config.rope
    vision = config.vision or VisionConfig(num_hidden_layers=1)
    return Mistral3Config(
        text_config={
            "model_type": "ministral3",
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "rms_norm_eps": config.rms_norm_eps,
            "max_position_embeddings": config.max_position_embeddings,
            "rope_parameters": {
                "rope_type": "yarn",
                "type": "yarn",
                **{name: getattr(rope, name) for name in rope.__dataclass_fields__},
            },
            "eos_token_id": config.eos_token_id,
            "tie_word_embeddings": False,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "patch_size": vision.patch_size,
            "image_size": vision.image_size,
            "hidden_act": "silu",
            "rope_parameters": {"rope_theta": vision.rope_theta, "rope_type": "axial"},
        },
        image_token_index=IMAGE_TOKEN_ID,
        spatial_merge_size=config.spatial_merge_size,
        vision_feature_layer=-1,
        projector_hidden_act="gelu",
        multimodal_projector_bias=False,
        tie_word_embeddings=False,
    )
