"""Where each parameter lives: one device, or spilled to the CPU and to disk through accelerate.

One accelerator at most: the caches of the engine live on a single device.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vlm_dlm.errors import CheckpointError
from vlm_dlm.memory import free_memory
from vlm_dlm.model.linear import empty_weight

if TYPE_CHECKING:
    from vlm_dlm.model.vlm import VlmModel

MaxMemory = Mapping[int | str, int | str]

# Kept free of weights and cache, for activations.
RESERVED_FRACTION = 0.1
# What is left to do where quantized weights do not fit.
_SMALLER = {
    "int8": "choose int4, load without --quantize (layers then wait on disk), or see "
    "`vlm-dlm doctor`",
    "int4": "load without --quantize (layers then wait on disk), or see `vlm-dlm doctor`",
}
# Layers with residual connections run where they are; splitting one would copy its input twice.
WHOLE_MODULES = ["DecoderLayer", "PixtralAttentionLayer", "Mistral3MultiModalProjector"]


class Placement:
    """Everything on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def device_of(self, parameter: str) -> torch.device:
        """Device on which the loader allocates this parameter."""
        return self.device

    def allocate(self, parameter: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory that the loader fills."""
        is_product = parameter.startswith(("decoder.layers.", "diffusion_head."))
        return empty_weight(shape, dtype, self.device_of(parameter), is_product)

    def store(self, model: VlmModel, parameter: str, value: Tensor) -> None:
        """Take over a filled parameter."""
        set_parameter(model, parameter, value)

    def finish(self, model: VlmModel) -> None:
        """Called once, after the last parameter."""


class SpilledPlacement(Placement):
    """Modules over one device, the CPU and disk. Hooks fetch offloaded weights for each call."""

    def __init__(
        self, device: torch.device, device_map: dict[str, str | int | torch.device]
    ) -> None:
        super().__init__(device)
        self.device_map = device_map
        self.folder = tempfile.mkdtemp(prefix="vlm-dlm-offload-")
        self._cleanup = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.index: dict[str, Any] = {}

    def device_of(self, parameter: str) -> torch.device:
        place = self._place_of(parameter)
        return torch.device("cpu") if place in ("cpu", "disk") else self.device

    def allocate(self, parameter: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device_of(parameter))

    def store(self, model: VlmModel, parameter: str, value: Tensor) -> None:
        if self._place_of(parameter) != "disk":
            set_parameter(model, parameter, value)
            return
        from accelerate.utils import offload_weight

        # The module keeps a meta parameter, in the right dtype: that is how its hook sizes it.
        set_parameter(model, parameter, torch.empty_like(value, device="meta"))
        offload_weight(value, parameter, self.folder, self.index)

    def finish(self, model: VlmModel) -> None:
        from accelerate import dispatch_model
        from accelerate.utils import save_offload_index

        save_offload_index(self.index, self.folder)
        dispatch_model(model, self.device_map, self.device, offload_dir=self.folder)
        model.main_device = self.device
        # From here on the folder lives, and is deleted, with the model.
        self._cleanup.detach()
        weakref.finalize(model, shutil.rmtree, self.folder, ignore_errors=True)

    def _place_of(self, parameter: str) -> str | int | torch.device:
        name = parameter
        while name not in self.device_map:
            name = name.rpartition(".")[0]
        return self.device_map[name]


def plan_placement(
    model: VlmModel,
    device: torch.device,
    dtype: torch.dtype,
    max_memory: MaxMemory | None,
    reserved_bytes: int = 0,
) -> Placement:
    """Decide on the meta model. Spills when asked to, or when `device` is too small.

    reserved_bytes: of the device's free memory, for what comes after the weights.
    """
    needed = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    if max_memory is None:
        free = _free_bytes(device)
        if free is not None:
            free = max(0, free - reserved_bytes)
        if free is None or needed <= free * (1 - RESERVED_FRACTION):
            return Placement(device)
        max_memory = _default_limits(device, free)
    try:
        from accelerate import infer_auto_device_map
    except ImportError:
        raise CheckpointError(
            f"the weights need {needed / 2**30:.1f} GiB, more than {device} has free; "
            "install accelerate to offload layers, or choose a smaller dtype"
        ) from None
    limits = {**max_memory}
    if sum(key not in ("cpu", "disk") for key in limits) > 1:
        raise CheckpointError("max_memory names several accelerators; weights use at most one")
    device_map = infer_auto_device_map(
        model, max_memory=limits, no_split_module_classes=WHOLE_MODULES, dtype=dtype
    )
    places = set(device_map.values())
    if len(places) == 1 and "disk" not in places:
        return Placement(device)
    _check_disk(model, device_map, dtype)
    return SpilledPlacement(device, dict(device_map))


def _check_disk(
    model: VlmModel, device_map: Mapping[str, str | int | torch.device], dtype: torch.dtype
) -> None:
    """Raise CheckpointError unless the temporary folder holds what goes to disk."""
    on_disk = tuple(
        f"{name}." if name else "" for name, place in device_map.items() if place == "disk"
    )
    needed = dtype.itemsize * sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if f"{name}.".startswith(on_disk)
    )
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > free * (1 - RESERVED_FRACTION):
        raise CheckpointError(
            f"the checkpoint does not fit: {needed / 2**30:.1f} GiB of layers would wait on the "
            f"disk of {folder}, which has {free / 2**30:.1f} GiB free; free memory, choose a "
            "smaller dtype or --quantize, or set TMPDIR to a larger disk"
        )


def whole_placement(
    device: torch.device,
    needed: int,
    max_memory: MaxMemory | None,
    reserved_bytes: int,
    quantize: str,
) -> Placement:
    """Everything on `device`, for weights of `needed` bytes that cannot be offloaded.

    quantize: int8 or int4, as which they are `needed`.

    Raises CheckpointError where they do not fit beside `reserved_bytes`.
    """
    if max_memory is not None:
        raise CheckpointError(
            "quantized weights cannot be spread over devices; leave out max_memory, "
            "or load without quantize"
        )
    free = _free_bytes(device)
    room = None if free is None else max(0, free - reserved_bytes) * (1 - RESERVED_FRACTION)
    if room is not None and needed > room:
        raise CheckpointError(
            f"the quantized weights need {needed / 2**30:.1f} GiB and {device} has room for "
            f"{room / 2**30:.1f} GiB beside the cache; quantized layers cannot be offloaded, "
            f"{_SMALLER[quantize]}"
        )
    return Placement(device)


def _default_limits(device: torch.device, free: int) -> dict[int | str, int | str]:
    keep = 1 - RESERVED_FRACTION
    if device.type == "cpu":
        return {"cpu": int(free * keep)}
    cpu_free = _free_bytes(torch.device("cpu")) or 0
    return {device.index or 0: int(free * keep), "cpu": int(cpu_free * keep)}


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a device, in bytes, or None where it cannot be told."""
    return _free_bytes(device)


def _free_bytes(device: torch.device) -> int | None:
    """Free memory, or None where it cannot be told; loading is then simply tried."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory() if device.type == "cpu" else None


def set_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter (on the meta device, say) by `value`, sharing its memory."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    module.register_parameter(leaf, nn.Parameter(value))


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule called `name`."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, module)
