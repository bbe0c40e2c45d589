"""Images in vLLM, made to pixels and to tokens exactly as by our own engine.

transformers' Pixtral processor resizes otherwise and needs torchvision; nothing here uses it.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageProcessorItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdateDetails,
)
from vllm.transformers_utils.repo_utils import get_hf_file_to_dict

from vlm_dlm.checkpoint.model_types import IMAGE_TOKENS
from vlm_dlm.processor.image import CONFIG_FILE, Preprocessor
from vlm_dlm.processor.image_input import upright_rgb
from vlm_dlm.processor.prompt import image_run
from vlm_dlm.processor.tokenizer import IMAGE_IDS
from vlm_dlm.vllm_plugin.configs import VlmConfig

START, *_ = IMAGE_TOKENS


class ImageInfo(BaseProcessingInfo):
    """What one checkpoint says about images."""

    def get_hf_config(self) -> VlmConfig:
        return self.ctx.get_hf_config(VlmConfig)

    def get_hf_processor(self, **kwargs: object) -> Any:
        raise NotImplementedError("images are made without a processor of transformers")

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        """None: a request cannot change how images are made."""
        return {}

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": None}

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """Raises CheckpointError for a `preprocessor_config.json` that is none."""
        model, config = self.ctx.model_config, self.get_hf_config()
        vision: Any = config.vision_config
        raw = get_hf_file_to_dict(CONFIG_FILE, model.model, model.revision)
        return Preprocessor.from_settings(raw or {}, vision.patch_size, config.spatial_merge_size)

    def run(self, height: int, width: int) -> list[int]:
        """Tokens of an image of this size."""
        return image_run(self.preprocessor.grid(height, width), IMAGE_IDS)


class DummyInputs(BaseDummyInputsBuilder):
    """The largest images there are, for vLLM to find out what they cost."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return START * mm_counts.get("image", 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]
    ) -> dict[str, Any]:
        side = self.info.preprocessor.max_image_size
        images = self._get_dummy_images(
            width=side,
            height=side,
            num_images=mm_counts.get("image", 0),
            overrides=mm_options.get("image"),
        )
        return {"image": images}


class ImageProcessor(BaseMultiModalProcessor):
    """A template writes a start marker per image; it becomes the image's whole run of tokens."""

    def _call_hf_processor(
        self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        pictures: Any = hf_data.get("images", ())
        dtype = self.info.ctx.model_config.dtype
        pixels = [self._pixels(picture).to(dtype) for picture in pictures]
        return BatchFeature({"pixel_values": pixels})

    def _pixels(self, picture: Image.Image) -> torch.Tensor:
        """float32 [3, H, W]. vLLM has decoded the picture; turning it now would change its size."""
        return self.info.preprocessor.pixels(upright_rgb(picture, apply_exif=False))

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {"pixel_values": MultiModalFieldConfig.batched("image")}

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[PromptReplacement]:
        def run(index: int) -> PromptUpdateDetails:
            size = mm_items.get_items("image", ImageProcessorItems).get_image_size(index)
            return PromptUpdateDetails.select_token_id(
                self.info.run(size.height, size.width), IMAGE_IDS.pad
            )

        return [PromptReplacement(modality="image", target=[IMAGE_IDS.start], replacement=run)]
