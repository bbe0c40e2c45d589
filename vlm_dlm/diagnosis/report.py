"""Everything `vlm-dlm doctor` says, put together."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from vlm_dlm import __version__
from vlm_dlm.defaults import choose_dtype
from vlm_dlm.devices import choose_device
from vlm_dlm.diagnosis.machine import DeviceFacts, find_devices
from vlm_dlm.diagnosis.needs import MemoryNeed, memory_needs
from vlm_dlm.diagnosis.subject import CheckpointFacts, Subject
from vlm_dlm.diagnosis.verdict import Verdict, count_download, judge
from vlm_dlm.memory import memory_limit

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "pillow", "accelerate", "torchao")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything `vlm-dlm doctor` says.

    device, dtype: what 'auto' chooses.
    verdict: what to choose.
    """

    versions: dict[str, str]
    num_threads: int
    devices: tuple[DeviceFacts, ...]
    checkpoint: CheckpointFacts
    needs: tuple[MemoryNeed, ...]
    device: str
    dtype: str
    verdict: Verdict


def diagnose(subject: Subject) -> Diagnosis:
    """Look at this machine for the sake of one checkpoint."""
    devices = find_devices()
    device = choose_device("auto")
    config = subject.config
    needs = [
        need for place in devices for need in memory_needs(config, place.name, place.free_bytes)
    ]
    ram, facts = memory_limit(), subject.facts
    offload_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    verdict = judge(needs, choose_dtype(config, "cpu", ram), offload_bytes)
    return Diagnosis(
        versions=_versions(),
        num_threads=torch.get_num_threads(),
        devices=devices,
        checkpoint=facts,
        needs=tuple(needs),
        device=device,
        dtype=choose_dtype(config, device, ram),
        verdict=count_download(verdict, facts.missing_bytes, facts.disk_free_bytes),
    )


def _versions() -> dict[str, str]:
    versions = {"vlm-dlm": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
