"""One vision-language checkpoint, four ways to decode it.

The names below are the public surface; everything else may change. They are imported on first use,
so that `import vlm_dlm` stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlm_dlm.decoding import MODES
    from vlm_dlm.engine.config import EngineConfig
    from vlm_dlm.engine.core import EngineCore
    from vlm_dlm.errors import BadInputError, CheckpointError, VlmDlmError
    from vlm_dlm.processor.prompt import ImagePart, Message, TextPart
    from vlm_dlm.report import ModeResult, Report
    from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
    from vlm_dlm.runtime import Runtime

__version__ = "0.1.0"

_HOMES = {
    "MODES": "vlm_dlm.decoding",
    "BadInputError": "vlm_dlm.errors",
    "CheckpointError": "vlm_dlm.errors",
    "EngineConfig": "vlm_dlm.engine.config",
    "EngineCore": "vlm_dlm.engine.core",
    "GenerationRequest": "vlm_dlm.request",
    "ImagePart": "vlm_dlm.processor.prompt",
    "Message": "vlm_dlm.processor.prompt",
    "ModeResult": "vlm_dlm.report",
    "PromptInput": "vlm_dlm.request",
    "Report": "vlm_dlm.report",
    "Runtime": "vlm_dlm.runtime",
    "SamplingParams": "vlm_dlm.request",
    "TextPart": "vlm_dlm.processor.prompt",
    "VlmDlmError": "vlm_dlm.errors",
}

__all__ = [
    "MODES",
    "BadInputError",
    "CheckpointError",
    "EngineConfig",
    "EngineCore",
    "GenerationRequest",
    "ImagePart",
    "Message",
    "ModeResult",
    "PromptInput",
    "Report",
    "Runtime",
    "SamplingParams",
    "TextPart",
    "VlmDlmError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
