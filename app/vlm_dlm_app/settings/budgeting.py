"""Settings to the memory that requests may take."""

from __future__ import annotations

from vlm_dlm.defaults import choose_dtype
from vlm_dlm.devices import seems_to_have_cuda
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.memory import memory_limit
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.serving.memory_budget import MemoryBudget, fixed_bytes, share_out
from vlm_dlm_app.settings.model import Settings


def memory_budget(settings: Settings, checkpoint: Checkpoint) -> MemoryBudget:
    """What the limit of this process's memory leaves for requests. A model counts where it will
    most likely lie."""
    limit = memory_limit()
    is_elsewhere = settings.device == "cuda" or (settings.device == "auto" and seems_to_have_cuda())
    has_weights = settings.engine == "torch" and not is_elsewhere and not settings.vllm_alone
    dtype = settings.dtype
    if dtype == "auto":
        dtype = choose_dtype(checkpoint.config, "cpu", limit, settings.quantize)
    cache = settings.max_cache_tokens
    fixed = fixed_bytes(
        checkpoint.config if has_weights else None,
        dtype,
        None if cache is None else EngineConfig(max_cache_tokens=cache),
        settings.quantize,
        has_spare=settings.spare_engine and not settings.single_process,
        has_page=settings.page,
        has_template=checkpoint.processor.has_own_template,
    )
    return share_out(limit, fixed)
