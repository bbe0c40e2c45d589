"""The request with which a vLLM is tried before it counts as ready."""

from __future__ import annotations

from vlm_dlm.preflight import Checkpoint
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput
from vlm_dlm.warm_up import warm_up_prompt, warm_up_sampling


def trial(checkpoint: Checkpoint) -> GenerationRequest:
    """A few tokens about a small picture, or about nothing where the model reads text alone."""
    prompt = warm_up_prompt(checkpoint)
    images = (
        ImageInput(None, content_hash, grid.num_pads, picture)
        for content_hash, grid, picture in zip(
            prompt.image_hashes, prompt.grids, prompt.images, strict=True
        )
    )
    inputs = PromptInput(prompt.token_ids, tuple(images))
    return GenerationRequest("trial", inputs, sampling=warm_up_sampling())
