"""A whole checkpoint folder in miniature, with random weights, for tests to load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from vlm_dlm.checkpoint.config import TEXT_TYPE, ModelConfig, RopeConfig, VisionConfig
from vlm_dlm.checkpoint.default_template import CHAT_TEMPLATE
from vlm_dlm.model.weights import new_model, save_model
from vlm_dlm.training.tokenizer import build_tokenizer, training_texts

NUM_ENTRIES = 300
MAX_CONTEXT = 512


def tiny_config() -> ModelConfig:
    """Two layers of width 32 with a vision tower of one."""
    return ModelConfig(
        vocab_size=1000 + NUM_ENTRIES,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=MAX_CONTEXT,
        rope=RopeConfig(rope_theta=10000.0, factor=4.0, original_max_position_embeddings=128),
        vision=VisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            head_dim=16,
            image_size=448,
            rope_theta=100.0,
        ),
    )


def write_tiny_checkpoint(folder: Path, seed: int = 0, is_text_only: bool = False) -> Path:
    """Fill `folder`. Weights are spread out, so that answers differ from prompt to prompt."""
    config = tiny_config()
    if is_text_only:
        config = replace(config, model_type=TEXT_TYPE, vision=None)
    model = new_model(config, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8.0)
        model.diffusion_head.weight[:1000] = 0.0  # reserved ids have no text
    save_model(model, folder)
    tokenizer = build_tokenizer(training_texts(100, seed), NUM_ENTRIES)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "max_image_size": 448}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
