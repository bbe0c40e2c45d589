"""Checkpoint files to modules and back: renames and packing as data, strict, one copy in memory."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.manifest import (
    SINGLE_FILE,
    TensorInfo,
    check_manifest,
    read_manifest,
)
from vlm_dlm.checkpoint.model_types import (
    expected_tensors,
    module_name,
    read_config,
    written_config,
)
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.placement import plan_placement, set_module, set_parameter, whole_placement
from vlm_dlm.model.quantization import check_quantize, is_quantized, weight_bytes
from vlm_dlm.model.quantized_linear import quantized_linear
from vlm_dlm.model.vlm import VlmModel

log = logging.getLogger(__name__)

PIECE_BYTES = 16 << 20  # of a file that are mapped at a time

Progress = Callable[[int, int], None]  # (done bytes, total bytes) of the model being filled

# Checkpoint tensors of one group are stacked by rows, in the order of the group.
PACKED = {
    ".self_attn.qkv_proj.": (".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."),
    ".mlp.gate_up_proj.": (".mlp.gate_proj.", ".mlp.up_proj."),
}


@dataclass(frozen=True, slots=True)
class Part:
    """Rows [start, stop) of a parameter that one checkpoint tensor fills."""

    tensor: str
    start: int
    stop: int


def parameter_layout(config: ModelConfig) -> dict[str, list[Part]]:
    """Parameter name of VlmModel -> the checkpoint tensors that fill it, in row order.

    `expected_tensors` lists the members of each packed group in the order of `PACKED`.
    """
    layout: dict[str, list[Part]] = {}
    for tensor, shape in expected_tensors(config).items():
        parts = layout.setdefault(_parameter_name(config, tensor), [])
        start = parts[-1].stop if parts else 0
        parts.append(Part(tensor, start, start + shape[0]))
    return layout


def _parameter_name(config: ModelConfig, tensor: str) -> str:
    name = module_name(config, tensor)
    for packed, members in PACKED.items():
        for member in members:
            name = name.replace(member, packed)
    return name


def empty_model(config: ModelConfig) -> VlmModel:
    """The modules on the meta device: shapes, no memory."""
    with _empty_weights():
        return VlmModel(config)


def _empty_weights() -> AbstractContextManager[object]:
    if find_spec("accelerate") is None:
        return torch.device("meta")
    from accelerate import init_empty_weights

    return init_empty_weights()


def new_model(config: ModelConfig, seed: int) -> VlmModel:
    """A trainable float32 model on the CPU: normal(0, 0.02) matrices, norms at one."""
    generator = torch.Generator().manual_seed(seed)
    model = empty_model(config)
    for name, parameter in list(model.named_parameters()):
        if parameter.dim() == 1:
            value = torch.ones(parameter.shape)
        else:
            value = torch.empty(parameter.shape).normal_(0.0, 0.02, generator=generator)
        set_parameter(model, name, value)
    return model


def load_model(
    folder: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    reserved_bytes: int = 0,
    quantize: str | None = None,
) -> VlmModel:
    """A frozen model in eval mode, filled from the checkpoint in `folder`.

    Headers are checked before anything is allocated. With `max_memory` (accelerate's form), or when
    the weights do not fit `device` beside `reserved_bytes`, layers spill to the CPU, then to disk.

    quantize: int8 or int4 for the matrices of the decoder's layers. Each is quantized as it is
    read, so there is never a second copy of the model; quantized weights do not spill.
    """
    config = read_config(folder)
    manifest = read_manifest(folder)
    for warning in check_manifest(config, manifest):
        log.warning("%s: %s", folder, warning)
    model = empty_model(config)
    model.quantize = quantize
    place = torch.device(device)
    if quantize is None:
        placement = plan_placement(model, place, dtype, max_memory, reserved_bytes)
    else:
        check_quantize(quantize)
        needed = weight_bytes(config, dtype.itemsize, quantize)
        placement = whole_placement(place, needed, max_memory, reserved_bytes, quantize)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    total = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    done = 0
    for name, parts in parameter_layout(config).items():
        if quantize is not None and is_quantized(name, shapes[name]):
            _quantize(model, name, shapes[name], parts, manifest, dtype, place)
        else:
            value = placement.allocate(name, shapes[name], dtype)
            _fill(value, parts, manifest)
            placement.store(model, name, value)
        done += math.prod(shapes[name]) * dtype.itemsize
        if progress is not None:
            progress(done, total)
    placement.finish(model)
    return model.requires_grad_(False).eval()


def _fill(value: Tensor, parts: list[Part], manifest: Mapping[str, TensorInfo]) -> None:
    """Copy stored tensors into the rows of `value` [rows, ...]."""
    for part in parts:
        _read(part, manifest, lambda first, rows: value[first : first + len(rows)].copy_(rows))


def _read(
    part: Part, manifest: Mapping[str, TensorInfo], take: Callable[[int, Tensor], object]
) -> None:
    """Hand a stored tensor to `take` a piece at a time: (its first row of the parameter, rows).

    Each piece maps the file anew: unmapping at once lets go of the pages just read, which otherwise
    stay resident next to the model, a whole tensor of them or all until the end.
    """
    info = manifest[part.tensor]
    step = max(1, PIECE_BYTES * info.shape[0] // max(1, info.num_bytes))  # rows
    try:
        for first in range(0, info.shape[0], step):
            with safe_open(info.file, framework="pt", device="cpu") as stored:
                take(part.start + first, stored.get_slice(part.tensor)[first : first + step])
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {part.tensor} from {info.file}: {error}") from error


def _quantize(
    model: VlmModel,
    name: str,
    shape: tuple[int, ...],
    parts: list[Part],
    manifest: Mapping[str, TensorInfo],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Put a quantized matrix of [out, in] in the place of a linear module."""
    module = quantized_linear(shape, model.quantize or "", dtype, device)
    for part in parts:
        _read(part, manifest, module.fill)
    module.finish()
    set_module(model, name.removesuffix(".weight"), module)


def save_model(model: VlmModel, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `model.safetensors` under the checkpoint's names, and `config.json`.

    Each file appears whole or not at all.
    """
    if model.quantize is not None:
        raise CheckpointError("a quantized model cannot be saved")
    parameters = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {}
    for name, parts in parameter_layout(model.config).items():
        value = parameters[name].detach()
        if value.is_meta:
            raise CheckpointError(f"{name} is offloaded; an offloaded model cannot be saved")
        for part in parts:
            rows = value[part.start : part.stop]
            tensors[part.tensor] = rows.to("cpu", dtype, copy=True).contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f".{SINGLE_FILE}.tmp"
    save_file(tensors, weights, metadata={"format": "pt"})
    os.replace(weights, folder / SINGLE_FILE)
    config = folder / ".config.json.tmp"
    config.write_text(json.dumps(written_config(model.config), indent=2) + "\n", encoding="utf-8")
    os.replace(config, folder / "config.json")
