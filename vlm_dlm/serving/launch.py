"""What an engine process is to run, and what it will be able to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vlm_dlm.checkpoint.model_types import read_config
from vlm_dlm.checkpoint.resolve import resolve_checkpoint
from vlm_dlm.defaults import embedded_checkpoint
from vlm_dlm.engine.base import Capabilities
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine

ENGINES = ("torch", "scripted")


@dataclass(frozen=True, slots=True)
class Launch:
    """One engine.

    model, device, dtype, adapter, quantize: as `Runtime.load` takes them.
    limits: of the engine, None takes the defaults.
    engine: 'torch', or 'scripted' for work without weights, which plays `script`.
    """

    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    adapter: str | None = None
    limits: EngineConfig | None = None
    engine: str = "torch"
    script: Script = field(default_factory=Script)
    quantize: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"unknown engine {self.engine!r}; choose {', '.join(ENGINES)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Launch:
        """Inverse of `to_dict`, also after a trip through JSON."""
        script: dict[str, Any] = {**raw["script"], "words": tuple(raw["script"]["words"])}
        limits = None if raw["limits"] is None else EngineConfig(**raw["limits"])
        values: dict[str, Any] = {**raw, "script": Script(**script), "limits": limits}
        return cls(**values)


def read_capabilities(launch: Launch) -> Capabilities:
    """What the engine will offer, from the checkpoint's config alone. Reads files.

    Raises CheckpointError for a checkpoint that is missing or has no usable config.
    """
    if launch.engine == "scripted":
        return ScriptedEngine(launch.script).capabilities
    folder = embedded_checkpoint() if launch.model is None else resolve_checkpoint(launch.model)
    limits = launch.limits or EngineConfig()
    max_context = read_config(Path(folder)).max_position_embeddings
    return limits.capabilities(max_context)
