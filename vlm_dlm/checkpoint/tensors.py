"""Names and shapes of the tensors of a published checkpoint, and what its modules are called here.

`model/weights.py` owns where each tensor goes.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlm_dlm.checkpoint.config import ModelConfig, VisionConfig
from vlm_dlm.errors import CheckpointError

Shape = tuple[int, ...]

# Checkpoint prefix -> module prefix; the first match wins, so the general rule comes last.
PREFIXES = (
    ("encoder.vision_tower.", "vision.vision_tower."),
    ("encoder.multi_modal_projector.", "vision.multi_modal_projector."),
    ("encoder.", "decoder."),
    ("diffusion_head.", "diffusion_head."),
)


def published_tensors(config: ModelConfig) -> dict[str, Shape]:
    """Every tensor the checkpoint must hold, by its published name, in forward order."""
    vocabulary = (config.vocab_size, config.hidden_size)
    shapes: dict[str, Shape] = {"encoder.embed_tokens.weight": vocabulary}
    for layer in range(config.num_hidden_layers):
        for name, shape in _decoder_layer(config):
            shapes[f"encoder.layers.{layer}.{name}.weight"] = shape
    shapes["encoder.norm.weight"] = (config.hidden_size,)
    if config.vision is not None:
        for name, shape in _vision(config, config.vision):
            shapes[f"encoder.{name}.weight"] = shape
    shapes["diffusion_head.weight"] = vocabulary
    return shapes


def _decoder_layer(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    width, hidden = config.hidden_size, config.intermediate_size
    query = config.num_attention_heads * config.head_dim
    key = config.num_key_value_heads * config.head_dim
    yield "input_layernorm", (width,)
    yield "self_attn.q_proj", (query, width)
    yield "self_attn.k_proj", (key, width)
    yield "self_attn.v_proj", (key, width)
    yield "self_attn.o_proj", (width, query)
    yield "post_attention_layernorm", (width,)
    yield "mlp.gate_proj", (hidden, width)
    yield "mlp.up_proj", (hidden, width)
    yield "mlp.down_proj", (width, hidden)


def _vision(config: ModelConfig, vision: VisionConfig) -> Iterator[tuple[str, Shape]]:
    width, hidden = vision.hidden_size, vision.intermediate_size
    if vision.head_dim * vision.num_attention_heads != width:
        raise CheckpointError(
            f"vision_config has {vision.num_attention_heads} heads of {vision.head_dim}, "
            f"which is not its hidden_size {width}"
        )
    yield (
        "vision_tower.patch_conv",
        (width, vision.num_channels, vision.patch_size, vision.patch_size),
    )
    yield "vision_tower.ln_pre", (width,)
    for layer in range(vision.num_hidden_layers):
        prefix = f"vision_tower.transformer.layers.{layer}"
        yield f"{prefix}.attention_norm", (width,)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{prefix}.attention.{name}", (width, width)
        yield f"{prefix}.ffn_norm", (width,)
        yield f"{prefix}.feed_forward.gate_proj", (hidden, width)
        yield f"{prefix}.feed_forward.up_proj", (hidden, width)
        yield f"{prefix}.feed_forward.down_proj", (width, hidden)
    projector = "multi_modal_projector"
    yield f"{projector}.norm", (width,)
    yield f"{projector}.patch_merger.merging_layer", (width, width * config.spatial_merge_size**2)
    yield f"{projector}.linear_1", (config.hidden_size, width)
    yield f"{projector}.linear_2", (config.hidden_size, config.hidden_size)
