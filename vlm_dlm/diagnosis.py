"""What this machine has and what a checkpoint would need, without loading weights."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from vlm_dlm import __version__
from vlm_dlm.defaults import (
    DTYPE_BYTES,
    cache_bytes_per_token,
    choose_dtype,
    num_parameters,
    ram_bytes,
)
from vlm_dlm.engine.scheduler import EngineConfig
from vlm_dlm.model.manifest import expected_tensors, read_manifest
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.runtime import choose_device

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "pillow", "accelerate")
USABLE_SHARE = 0.9  # of a device's memory, for weights and cache


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A place to run. memory_bytes: None where it cannot be told."""

    name: str
    title: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """A checkpoint as stored. file_bytes: size of its weight files."""

    name: str
    model_type: str
    num_tensors: int
    num_parameters: int
    file_bytes: int
    stored_dtypes: tuple[str, ...]
    max_context: int


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory of one device and dtype. The cache is that of an engine with default limits."""

    device: str
    dtype: str
    weight_bytes: int
    cache_tokens: int
    cache_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything `vlm-dlm doctor` says. device and dtype: what 'auto' chooses."""

    versions: dict[str, str]
    num_threads: int
    devices: tuple[DeviceFacts, ...]
    checkpoint: CheckpointFacts
    needs: tuple[MemoryNeed, ...]
    device: str
    dtype: str


def diagnose(checkpoint: Checkpoint) -> Diagnosis:
    """Look at this machine and at the checkpoint's headers."""
    devices = _devices()
    device = choose_device("auto")
    return Diagnosis(
        versions=_versions(),
        num_threads=torch.get_num_threads(),
        devices=devices,
        checkpoint=_facts(checkpoint),
        needs=tuple(_need(checkpoint, place, dtype) for place in devices for dtype in DTYPE_BYTES),
        device=device,
        dtype=choose_dtype(checkpoint.config, device, ram_bytes()),
    )


def _versions() -> dict[str, str]:
    versions = {"vlm-dlm": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _devices() -> tuple[DeviceFacts, ...]:
    cpu = DeviceFacts("cpu", platform.processor() or platform.machine(), ram_bytes())
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    gpus = (DeviceFacts(f"cuda:{i}", gpu.name, gpu.total_memory) for i, gpu in enumerate(found))
    return (cpu, *gpus)


def _facts(checkpoint: Checkpoint) -> CheckpointFacts:
    manifest = read_manifest(checkpoint.folder)
    files = {info.file for info in manifest.values()}
    return CheckpointFacts(
        name=checkpoint.name,
        model_type=checkpoint.config.model_type,
        num_tensors=len(expected_tensors(checkpoint.config)),
        num_parameters=num_parameters(checkpoint.config),
        file_bytes=sum(file.stat().st_size for file in files),
        stored_dtypes=tuple(sorted({info.dtype for info in manifest.values()})),
        max_context=checkpoint.config.max_position_embeddings,
    )


def _need(checkpoint: Checkpoint, place: DeviceFacts, dtype: str) -> MemoryNeed:
    config, num_tokens = checkpoint.config, EngineConfig().max_cache_tokens
    weights = num_parameters(config) * DTYPE_BYTES[dtype]
    cache = num_tokens * cache_bytes_per_token(config, dtype)
    free = place.memory_bytes
    fits = free is None or weights + cache <= free * USABLE_SHARE
    return MemoryNeed(place.name, dtype, weights, num_tokens, cache, fits)
