"""The request with which a vLLM is tried before it counts as ready."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vlm_dlm.preflight import Checkpoint, conversation, prepare_prompt
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput, SamplingParams

TEXT = "What is in the picture?"
MAX_TOKENS = 4


def trial(checkpoint: Checkpoint) -> GenerationRequest:
    """A few tokens about a small picture, or about nothing where the model reads text alone."""
    pictures: list[Image.Image] = []
    if checkpoint.processor.reads_images:
        noise = np.random.default_rng(0).integers(0, 256, (84, 112, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(noise))
    messages = conversation(TEXT, len(pictures))
    prompt = prepare_prompt(checkpoint, messages, pictures, MAX_TOKENS)
    images = (
        ImageInput(None, content_hash, grid.num_pads, picture)
        for content_hash, grid, picture in zip(
            prompt.image_hashes, prompt.grids, pictures, strict=True
        )
    )
    inputs = PromptInput(prompt.token_ids, tuple(images))
    return GenerationRequest("trial", inputs, sampling=SamplingParams(max_tokens=MAX_TOKENS))
