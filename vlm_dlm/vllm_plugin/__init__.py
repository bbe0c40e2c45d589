"""This project's checkpoints in vLLM, for its autoregressive decoding.

vLLM finds `register` by the entry point `vllm.general_plugins` and calls it in every process of its
own. It needs nothing that vLLM does not bring, so the project may be installed with `--no-deps`.
"""

from __future__ import annotations

from vlm_dlm.checkpoint.config import TEXT_TYPE, VLM_TYPE
from vlm_dlm.checkpoint.model_types import MODEL_TYPES

ARCHITECTURES = {
    MODEL_TYPES[VLM_TYPE].architecture: "vlm_dlm.vllm_plugin.models:VlmForCausalLM",
    MODEL_TYPES[TEXT_TYPE].architecture: "vlm_dlm.vllm_plugin.models:TextForCausalLM",
}


def register() -> None:
    """Name configs and architectures; what is heavy is imported by whoever loads such a model."""
    from transformers import AutoConfig
    from vllm import ModelRegistry  # pyright: ignore[reportMissingImports]

    from vlm_dlm.vllm_plugin.configs import CONFIGS

    for config in CONFIGS:
        AutoConfig.register(config.model_type, config, exist_ok=True)
    for name, place in ARCHITECTURES.items():
        ModelRegistry.register_model(name, place)
