"""The draft adapter's files (PEFT layout) onto a loaded model. Strict, like the checkpoint's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.json_file import read_object
from vlm_dlm.checkpoint.manifest import check_tensors, read_header
from vlm_dlm.checkpoint.tensors import Shape
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.lora import RowLora
from vlm_dlm.model.vlm import VlmModel

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# Options that change the arithmetic, with the only values `RowLora` implements.
FIXED_OPTIONS = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layers_to_transform": (None,),
}


def check_draft_adapter(config: ModelConfig, folder: Path) -> tuple[int, float, int]:
    """Rank, scale and number of tensors of an adapter whose headers fit. Raises CheckpointError."""
    rank, scale = _read_options(folder)
    wanted = _expected(config, rank)
    stored = read_header(folder / WEIGHTS_FILE)
    check_tensors(wanted, stored, f"{CONFIG_FILE} and the model")
    return rank, scale, len(wanted)


def load_draft_adapter(model: VlmModel, folder: Path) -> None:
    """Give every layer's `self_attn` its `draft_lora`. Never merged: rows choose it per forward."""
    rank, scale, _ = check_draft_adapter(model.config, folder)
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            for index, layer in enumerate(model.decoder.layers):
                lora = RowLora(*_widths(model.config), rank, scale)
                for part in ("lora_A", "lora_B"):
                    value = stored.get_tensor(_name(index, part)).to(
                        model.device, model.dtype, copy=True
                    )
                    lora.register_parameter(part, nn.Parameter(value, requires_grad=False))
                attention: Any = layer.self_attn
                attention.draft_lora = lora.eval()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _read_options(folder: Path) -> tuple[int, float]:
    """Rank and scale."""
    path = folder / CONFIG_FILE
    raw = read_object(path)
    targets = raw.get("target_modules")
    if targets not in ("o_proj", ["o_proj"]):
        raise CheckpointError(f"{path} has target_modules {targets!r}; only o_proj is supported")
    for option, allowed in FIXED_OPTIONS.items():
        if option in raw and raw[option] not in allowed:
            raise CheckpointError(f"{path} has {option}={raw[option]!r}, which is not supported")
    rank, alpha = raw.get("r"), raw.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise CheckpointError(
            f"{path} needs a rank r >= 1 and a lora_alpha, not {rank!r}, {alpha!r}"
        )
    return rank, alpha / rank


def _expected(config: ModelConfig, rank: int) -> dict[str, Shape]:
    in_width, out_width = _widths(config)
    shapes: dict[str, Shape] = {}
    for layer in range(config.num_hidden_layers):
        shapes[_name(layer, "lora_A")] = (rank, in_width)
        shapes[_name(layer, "lora_B")] = (out_width, rank)
    return shapes


def _widths(config: ModelConfig) -> tuple[int, int]:
    return config.num_attention_heads * config.head_dim, config.hidden_size


def _name(layer: int, part: str) -> str:
    return f"base_model.model.encoder.layers.{layer}.self_attn.o_proj.{part}.weight"
