"""What a checkpoint folder holds against what its config needs, from file headers alone.

Free of torch, so that a bad checkpoint is refused before torch is imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.model_types import expected_tensors
from vlm_dlm.checkpoint.tensors import Shape
from vlm_dlm.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100 * 1024 * 1024  # the limit of the safetensors format itself
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Left behind by some exporters; the values are recomputed or unused.
TOLERATED_SUFFIXES = ("rotary_emb.inv_freq", "self_attn.k_scale", "self_attn.v_scale")
NUM_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor. `dtype` is the safetensors spelling, such as 'BF16'."""

    file: Path
    dtype: str
    shape: Shape

    @property
    def num_bytes(self) -> int:
        """In the file. Raises KeyError for a dtype that no model has."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def read_manifest(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor stored in `folder`, by name. Raises CheckpointError for a damaged file."""
    if (folder / SINGLE_FILE).is_file():
        return read_header(folder / SINGLE_FILE)
    index = folder / INDEX_FILE
    if not index.is_file():
        raise CheckpointError(f"neither {SINGLE_FILE} nor {INDEX_FILE} in {folder}")
    weight_map = _read_index(index)
    manifest: dict[str, TensorInfo] = {}
    for shard in sorted(set(weight_map.values())):
        for name, info in read_header(folder / shard).items():
            if name in manifest:
                raise CheckpointError(
                    f"{name} is stored twice, in {manifest[name].file.name} and {shard}"
                )
            manifest[name] = info
    for name, shard in weight_map.items():
        if name not in manifest or manifest[name].file != folder / shard:
            raise CheckpointError(f"{index} places {name} in {shard}, which does not hold it")
    return manifest


def has_weights(folder: Path) -> bool:
    """Whether every weight file is there, whole or not; True for a damaged index, which names none.

    Hub caches may hold less: another tool asked for the config alone.
    """
    if (folder / SINGLE_FILE).is_file():
        return True
    if not (folder / INDEX_FILE).is_file():
        return False
    try:
        shards = set(_read_index(folder / INDEX_FILE).values())
    except CheckpointError:  # said when it is opened
        return True
    return all((folder / shard).is_file() for shard in shards)


def _read_index(index: Path) -> dict[str, str]:
    try:
        raw = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{index} is not a readable JSON file: {error}") from None
    weight_map = raw.get("weight_map") if isinstance(raw, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _is_inside(shard):
            raise CheckpointError(
                f"{index} places {name} in {shard!r}; only files inside the folder are read"
            )
    return weight_map


def _is_inside(shard: str) -> bool:
    path = PurePosixPath(shard)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in shard or ":" in shard
    return path.suffix == ".safetensors" and not unsafe


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Tensors of one safetensors file, after checking that the file has the size it announces."""
    raw, data_bytes = _read_raw_header(path)
    manifest: dict[str, TensorInfo] = {}
    announced = 0
    for name, entry in raw.items():
        if name == "__metadata__":
            continue
        try:
            shape = tuple(int(size) for size in entry["shape"])
            dtype = str(entry["dtype"])
            begin, end = (int(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise CheckpointError(f"{path} has a damaged entry for {name}") from None
        wanted = math.prod(shape) * ITEM_BYTES.get(dtype, 0)
        if begin < 0 or end < begin or (wanted and end - begin != wanted):
            raise CheckpointError(f"{path} has wrong data offsets for {name}")
        manifest[name] = TensorInfo(path, dtype, shape)
        announced = max(announced, end)
    if announced != data_bytes:
        raise CheckpointError(
            f"{path} holds {data_bytes} bytes of tensor data but announces {announced}; "
            "it is truncated or damaged, download it again"
        )
    return manifest


def _read_raw_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header's JSON object and the number of bytes after it."""
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if file_bytes < 8 or length > min(MAX_HEADER_BYTES, file_bytes - 8):
                raise CheckpointError(
                    f"{path} ({file_bytes} bytes) is not a complete safetensors file"
                )
            raw = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged header: {error}") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} has a damaged header: not a JSON object")
    return raw, file_bytes - 8 - length


def check_manifest(config: ModelConfig, manifest: Mapping[str, TensorInfo]) -> list[str]:
    """Warnings about stray tensors; CheckpointError if anything is missing, unknown or misfit."""
    stray = [name for name in manifest if name.endswith(TOLERATED_SUFFIXES)]
    relevant = {name: info for name, info in manifest.items() if name not in stray}
    check_tensors(expected_tensors(config), relevant, "config.json")
    return [_summary(stray, "unused and ignored")] if stray else []


def check_tensors(
    wanted: Mapping[str, Shape], stored: Mapping[str, TensorInfo], authority: str
) -> None:
    """Raise one CheckpointError that lists every kind of mismatch. `authority` names the source."""
    present = {name: info for name, info in stored.items() if name in wanted}
    faults = {
        "missing": [name for name in wanted if name not in stored],
        "unexpected": [name for name in stored if name not in wanted],
        "of the wrong shape": [
            f"{name} is {list(info.shape)} but should be {list(wanted[name])}"
            for name, info in present.items()
            if info.shape != wanted[name]
        ],
        "of an unsupported dtype": [
            f"{name} is {info.dtype}"
            for name, info in present.items()
            if info.dtype not in ITEM_BYTES
        ],
    }
    found = [_summary(names, kind) for kind, names in faults.items() if names]
    if found:
        raise CheckpointError(f"tensors do not match {authority}: " + "; ".join(found))


def _summary(names: list[str], kind: str) -> str:
    shown = ", ".join(names[:NUM_NAMES_SHOWN])
    more = ", ..." if len(names) > NUM_NAMES_SHOWN else ""
    return f"{len(names)} {kind} ({shown}{more})"
