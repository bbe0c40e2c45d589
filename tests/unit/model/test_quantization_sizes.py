"""Sizes under quantization are arithmetic on shapes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.errors import BadInputError, CheckpointError
from vlm_dlm.model.quantization import SCHEMES, is_quantized, weight_bytes

LAYERS = 34
MATRICES = 2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096  # weights of one layer
ROWS = 2 * 4096 + 2 * 1024 + 2 * 14336 + 4096
OTHERS = 8_918_034_432 - LAYERS * MATRICES


def test_sizes_of_the_full_model() -> None:
    config = ModelConfig()
    assert weight_bytes(config, 2) == 17_836_068_864
    assert weight_bytes(config, 2, "int8") == LAYERS * (MATRICES + 4 * ROWS) + 2 * OTHERS
    grouped = MATRICES // 2 + 2 * 2 * MATRICES // 64
    assert weight_bytes(config, 2, "int4") == LAYERS * grouped + 2 * OTHERS
    assert weight_bytes(config, 2, "int8") < 10.5e9  # a card of 12 GB
    assert weight_bytes(config, 2, "int4") < 7.3e9


def test_only_matrices_of_layers_are_quantized() -> None:
    assert is_quantized("decoder.layers.0.mlp.up_proj.weight", (8, 8))
    assert is_quantized("decoder.layers.0.self_attn.qkv_proj.weight", (8, 8))
    assert not is_quantized("decoder.layers.0.input_layernorm.weight", (8,))
    for name in (
        "diffusion_head",
        "encoder.embed_tokens",
        "vision.multi_modal_projector.linear_1",
    ):
        assert not is_quantized(f"{name}.weight", (8, 8))


def test_groups_divide_the_rows_or_the_checkpoint_is_refused() -> None:
    assert SCHEMES["int4"].num_groups(704) == 11
    assert SCHEMES["int4"].num_groups(96) == 3  # of 32
    config = replace(ModelConfig(), intermediate_size=100)
    with pytest.raises(CheckpointError, match="rows of 100; choose int8"):
        weight_bytes(config, 2, "int4")
    assert weight_bytes(config, 2, "int8") > 0


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(BadInputError, match="unknown quantization 'int3'; choose int8 or int4"):
        weight_bytes(ModelConfig(), 2, "int3")


def test_sizes_need_no_torch() -> None:
    code = "import sys, vlm_dlm.model.quantization; sys.exit(int('torch' in sys.modules))"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
