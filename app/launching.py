"""Settings to the engine they ask for: the one place that names concrete engines."""

from __future__ import annotations

from app.settings import Settings
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.model.quantization import check_quantize
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.local_engine import LocalEngine
from vlm_dlm.serving.managed import ManagedEngine
from vlm_dlm.serving.process_engine import ProcessEngine


def build_engine(settings: Settings) -> ManagedEngine:
    """Built and not started. Raises CheckpointError, or BadInputError where torchao is missing."""
    check_quantize(settings.quantize)
    launch = launch_of(settings)
    return LocalEngine(launch) if settings.single_process else ProcessEngine(launch)


def launch_of(settings: Settings) -> Launch:
    """What the engine process is to run."""
    return Launch(
        model=settings.model,
        device=settings.device,
        dtype=settings.dtype,
        quantize=settings.quantize,
        adapter=settings.adapter,
        limits=_limits(settings),
        engine=settings.engine,
        script=_script(settings),
    )


def _limits(settings: Settings) -> EngineConfig | None:
    """None where the engine's own defaults stand."""
    names = ("max_running", "max_cache_tokens")
    given = {name: getattr(settings, name) for name in names}
    chosen = {name: limit for name, limit in given.items() if limit is not None}
    return EngineConfig(**chosen) if chosen else None


def _script(settings: Settings) -> Script:
    plain = Script()
    return Script(
        words=tuple(f"{word} " for word in settings.script_words) or plain.words,
        step_s=settings.script_step_s,
        max_running=settings.max_running or plain.max_running,
    )
