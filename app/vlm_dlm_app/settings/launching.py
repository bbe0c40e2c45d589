"""Settings to the engine they ask for: the one place that names concrete engines."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from vlm_dlm.defaults import choose_dtype
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.memory import memory_limit
from vlm_dlm.model.quantization import check_quantize
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.local_engine import LocalEngine
from vlm_dlm.serving.managed import ManagedEngine
from vlm_dlm.serving.process.engine import ProcessEngine
from vlm_dlm.serving.routed_engine import RoutedEngine
from vlm_dlm_app.settings.model import Settings

if TYPE_CHECKING:
    from vlm_dlm.serving.vllm.servers import VllmServer

Build = Callable[[Settings, Checkpoint], ManagedEngine]


def build_engine(settings: Settings, checkpoint: Checkpoint) -> ManagedEngine:
    """Built and not started. Raises CheckpointError, or BadInputError where vLLM or torchao is
    asked for and not installed."""
    return _BACKENDS[settings.backend](settings, checkpoint)


def _own(settings: Settings, checkpoint: Checkpoint) -> ManagedEngine:
    check_quantize(settings.quantize)
    launch = launch_of(settings)
    if settings.single_process:
        return LocalEngine(launch)
    return ProcessEngine(launch, has_spare=None if settings.spare_engine else False)


def _vllm(settings: Settings, checkpoint: Checkpoint) -> ManagedEngine:
    """vLLM for the modes it has, and our own engine for the others, unless vLLM is to be alone."""
    from vlm_dlm.serving.vllm.engine import VllmEngine

    vllm = VllmEngine(_vllm_server(settings, checkpoint), checkpoint, settings.max_running)
    if settings.vllm_alone:
        return vllm
    own = _own(settings, checkpoint)
    routes = {mode.name: own for mode in own.capabilities.modes}
    return RoutedEngine(routes | {mode.name: vllm for mode in vllm.capabilities.modes})


def _vllm_server(settings: Settings, checkpoint: Checkpoint) -> VllmServer:
    from vlm_dlm.serving.vllm.engine import MAX_RUNNING
    from vlm_dlm.serving.vllm.installation import find_vllm
    from vlm_dlm.serving.vllm.servers import ChildLaunch, ChildServer, RemoteServer

    if settings.vllm_url is not None:
        key = settings.vllm_api_key
        secret = None if key is None else key.get_secret_value()
        return RemoteServer(settings.vllm_url, secret, settings.vllm_model)
    found = find_vllm(settings.vllm_python)
    dtype = settings.dtype
    if dtype == "auto":  # as our own engine would choose on that device
        device = "cpu" if found.is_cpu else "cuda"
        dtype = choose_dtype(checkpoint.config, device, memory_limit())
    launch = ChildLaunch(
        found,
        checkpoint.folder,
        dtype,
        settings.max_running or MAX_RUNNING,
        tuple(shlex.split(settings.vllm_args or "")),
    )
    return ChildServer(launch)


_BACKENDS: dict[str, Build] = {"own": _own, "vllm": _vllm}


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
