"""The published schema is read back as written, and nothing that counts is guessed."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_dlm.checkpoint.config import TEXT_TYPE, ModelConfig
from vlm_dlm.checkpoint.model_types import parse_config, written_config
from vlm_dlm.errors import CheckpointError

VLM = ModelConfig()
TEXT = ModelConfig(model_type=TEXT_TYPE, vocab_size=131072, vision=None)
COUNTING = [
    "vocab_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "max_position_embeddings",
    "mask_token_id",
    "eos_token_id",
    "spatial_merge_size",
    "rope_parameters.rope_theta",
    "rope_parameters.factor",
    "rope_parameters.original_max_position_embeddings",
    "rope_parameters.beta_fast",
    "rope_parameters.llama_4_scaling_beta",
    "vision_config.num_attention_heads",
    "vision_config.patch_size",
    "vision_config.image_size",
    "vision_config.rope_parameters",
    "vision_config.rope_parameters.rope_theta",
]


def without(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """A copy that lacks one field, named by its path."""
    first, _, rest = name.partition(".")
    kept = {key: value for key, value in raw.items() if key != first}
    return {**kept, first: without(raw[first], rest)} if rest else kept


@pytest.mark.parametrize("config", [VLM, TEXT], ids=["vlm", "text"])
def test_what_is_written_is_read_back(config: ModelConfig) -> None:
    assert parse_config(written_config(config)) == config


@pytest.mark.parametrize("name", COUNTING)
def test_a_field_that_counts_must_be_there(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"^config.json lacks {name}$"):
        parse_config(without(written_config(VLM), name))


def test_all_that_is_missing_is_listed_at_once() -> None:
    raw = written_config(VLM)
    for name in ("rms_norm_eps", "rope_parameters.factor", "vision_config.head_dim"):
        raw = without(raw, name)
    expected = "lacks rms_norm_eps, rope_parameters.factor, vision_config.head_dim"
    with pytest.raises(CheckpointError, match=expected):
        parse_config(raw)


def test_a_text_model_needs_nothing_about_images() -> None:
    raw = written_config(TEXT)
    del raw["spatial_merge_size"], raw["projector_hidden_act"], raw["block_size"]
    assert parse_config(raw) == TEXT


def test_the_base_of_the_rotary_angles_may_stand_at_the_top() -> None:
    raw = without(written_config(TEXT), "rope_parameters.rope_theta")
    assert parse_config({**raw, "rope_theta": 5e5}).rope.rope_theta == 5e5
