"""The family's models for vLLM: its own Mistral parts under this family's weight names."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper
from vllm.multimodal import MULTIMODAL_REGISTRY

from vlm_dlm.vllm_plugin.images import START, DummyInputs, ImageInfo, ImageProcessor
from vlm_dlm.vllm_plugin.stand_in import torchvision_stand_in

with torchvision_stand_in():
    from vllm.model_executor.models.mistral3 import Mistral3ForConditionalGeneration


class TextForCausalLM(MistralForCausalLM):
    """A text-only member."""

    hf_to_vllm_mapper: ClassVar = WeightsMapper(
        orig_to_new_prefix={"encoder.": "model.", "diffusion_head.": "lm_head."}
    )

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        return AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)


@MULTIMODAL_REGISTRY.register_processor(ImageProcessor, info=ImageInfo, dummy_inputs=DummyInputs)
class VlmForCausalLM(Mistral3ForConditionalGeneration):
    """A member that reads images. The more particular prefixes come first."""

    hf_to_vllm_mapper: ClassVar = WeightsMapper(
        orig_to_new_prefix={
            "encoder.vision_tower.": "vision_tower.",
            "encoder.multi_modal_projector.": "multi_modal_projector.",
            "encoder.": "language_model.model.",
            "diffusion_head.": "language_model.lm_head.",
        }
    )
    # Pixels are normalised by our own arithmetic, not on the device by vLLM's.
    supports_mm_device_do_normalize = False

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """What stands for an image in a prompt until it is known how large it is."""
        if modality.startswith("image"):
            return START
        raise ValueError("only images can be read")
