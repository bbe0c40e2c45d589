"""What a run needs to continue, in one file that is whole or absent."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vlm_dlm.training.folder import CHECKPOINT, STATE_FOLDER

AFTER_VISION = "after_vision.pt"


@dataclass(slots=True)
class RunState:
    """Where a run is. `optimizer` is None at the first step of a stage, `extra` of the run.

    has_start: the first weights came from a finished checkpoint, whose training is not counted.
    seconds and steps count per stage what was spent, so that interruptions cost no budget. recipe:
    its fields by name, None in states that were written before it was kept.
    """

    seed: int
    tokenizer: str
    has_start: bool = False
    stage: str = "vision"
    seconds: dict[str, float] = field(default_factory=lambda: {"vision": 0.0, "joint": 0.0})
    steps: dict[str, int] = field(default_factory=lambda: {"vision": 0, "joint": 0})
    samples: dict[str, int] = field(default_factory=lambda: {"vision": 0, "joint": 0})
    evaluation: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: list[dict[str, Any]] | None = None
    extra: dict[str, Any] | None = None
    rng: Any = None
    recipe: dict[str, Any] | None = None


def save_state(state: RunState, out: Path, name: str = CHECKPOINT) -> None:
    """Write to a temporary file, then rename."""
    folder = out / STATE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    state.rng = torch.get_rng_state()
    temporary = folder / f".{name}.tmp"
    values = {key: getattr(state, key) for key in RunState.__slots__}
    torch.save(values, temporary)
    os.replace(temporary, folder / name)


def load_state(out: Path) -> RunState:
    """Read the last checkpoint and restore the random state."""
    path = out / STATE_FOLDER / CHECKPOINT
    values = torch.load(path, map_location="cpu", weights_only=True)
    torch.set_rng_state(values["rng"])
    return RunState(**values)


def keep_state(out: Path, name: str) -> None:
    """Keep a copy of the current checkpoint under another name."""
    folder = out / STATE_FOLDER
    shutil.copyfile(folder / CHECKPOINT, folder / name)
