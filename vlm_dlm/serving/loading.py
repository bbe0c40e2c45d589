"""A launch becomes an engine that has run every mode once. Needs torch, and imports it late.

Blocking parts are for a worker thread; `warm_up` runs in the engine's own event loop.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlm_dlm.decoding import MODES
from vlm_dlm.engine.base import Engine
from vlm_dlm.engine.scripted_engine import ScriptedEngine
from vlm_dlm.errors import EngineError
from vlm_dlm.events import Failed
from vlm_dlm.preflight import Checkpoint, open_checkpoint
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput
from vlm_dlm.serving.launch import Launch
from vlm_dlm.warm_up import warm_up_prompt, warm_up_sampling

OnProgress = Callable[[float], None]  # 0 to 1, from any thread
# Most of a start's time.
SLOW_IMPORTS = ("vlm_dlm.runtime", "vlm_dlm.engine.torch_engine", "accelerate")


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine, what to warm it up with (None: nothing to warm), and what it runs on."""

    engine: Engine
    prompt: PromptInput | None = None
    device: str = ""
    dtype: str = ""


def prepare(launch: Launch) -> Checkpoint | None:
    """Open the checkpoint and import what loading will need; no weights, no devices. Blocking.

    Raises CheckpointError, before it imports anything slow.
    """
    if launch.engine == "scripted":
        return None
    checkpoint = open_checkpoint(launch.model)
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    return checkpoint


def load_engine(launch: Launch, checkpoint: Checkpoint | None, progress: OnProgress) -> Loaded:
    """Load the weights of what `prepare` gave and start the engine. Blocking.

    Raises what `Runtime.load` raises.
    """
    if checkpoint is None:
        return Loaded(ScriptedEngine(launch.script))
    from vlm_dlm.engine.torch_engine import TorchEngine
    from vlm_dlm.runtime import Runtime

    runtime = Runtime.load(
        checkpoint,
        launch.device,
        launch.dtype,
        None if launch.adapter is None else Path(launch.adapter),
        lambda done, total: progress(done / max(total, 1)),
        launch.limits,
        launch.quantize,
    )
    prompt = runtime.inputs(warm_up_prompt(checkpoint))
    return Loaded(TorchEngine(runtime.core), prompt, runtime.device, runtime.dtype)


async def warm_up(loaded: Loaded, progress: OnProgress) -> None:
    """Run every mode for a few tokens. Raises EngineError if one cannot run."""
    if loaded.prompt is None:
        return
    sampling = warm_up_sampling()
    for number, mode in enumerate(MODES):
        progress(number / len(MODES))
        request = GenerationRequest(f"warm-up-{mode}", loaded.prompt, mode, sampling=sampling)
        events = loaded.engine.generate(request)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Failed):
                    raise EngineError(f"warming up mode {mode} failed: {event.message}")


def with_tensors(request: GenerationRequest) -> GenerationRequest:
    """The same request, its pixels as the engine takes them, sharing their memory."""
    if not request.prompt.images:
        return request
    images = tuple(_with_tensor(image) for image in request.prompt.images)
    return replace(request, prompt=replace(request.prompt, images=images))


def _with_tensor(image: ImageInput) -> ImageInput:
    return replace(image, pixels=to_tensor(image.pixels))


def to_tensor(pixels: Any) -> Any:
    """float32 pixels [3, H, W], an array or a tensor already, as a tensor."""
    import torch

    return torch.as_tensor(pixels)
