"""The package's front door: a conversation and its images to what the model reads, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.model_types import model_type_of
from vlm_dlm.errors import PromptError
from vlm_dlm.processor.chat_template import ChatTemplate
from vlm_dlm.processor.detokenizer import IncrementalDetokenizer
from vlm_dlm.processor.image import Grid, Preprocessor
from vlm_dlm.processor.prompt import Message, Prompt, PromptBuilder
from vlm_dlm.processor.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A request's input, torch-free. Per-image fields are parallel and in prompt order.

    `num_image_tokens` is that of `Prompt`; `image_hashes` identify the pixels
    that the model will see.
    """

    token_ids: tuple[int, ...]
    num_image_tokens: int
    images: tuple[Image.Image, ...]
    grids: tuple[Grid, ...]
    image_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Processor:
    """Tokenizer, preprocessing and chat template of one checkpoint."""

    tokenizer: Tokenizer
    preprocessor: Preprocessor
    prompts: PromptBuilder
    max_positions: int
    reads_images: bool

    @classmethod
    def from_folder(cls, folder: Path, config: ModelConfig) -> Processor:
        """Load the side files of a checkpoint. Raises CheckpointError when they are unusable."""
        tokenizer = Tokenizer.from_folder(folder, config)
        template = ChatTemplate.from_folder(folder, model_type_of(config))
        patch_size = 14 if config.vision is None else config.vision.patch_size
        return cls(
            tokenizer=tokenizer,
            preprocessor=Preprocessor.from_folder(folder, patch_size, config.spatial_merge_size),
            prompts=PromptBuilder(tokenizer, template),
            max_positions=config.max_position_embeddings,
            reads_images=config.vision is not None,
        )

    @property
    def has_own_template(self) -> bool:
        """Whether the checkpoint brings one, which is rendered in a process."""
        return self.prompts.has_own_template

    def prepare(
        self,
        messages: Sequence[Message],
        images: Sequence[Image.Image] = (),
        *,
        enable_thinking: bool = False,
        max_positions: int | None = None,
    ) -> PreparedPrompt:
        """Build the prompt of a conversation about `images` (mode RGB, from `read_image`).

        `max_positions` lowers the model's own limit. Raises PromptError.
        """
        grids = tuple(self.preprocessor.grid(image.height, image.width) for image in images)
        prompt = self.prompt(
            messages, grids, enable_thinking=enable_thinking, max_positions=max_positions
        )
        return PreparedPrompt(
            token_ids=prompt.token_ids,
            num_image_tokens=prompt.num_image_tokens,
            images=tuple(images),
            grids=grids,
            image_hashes=tuple(self.preprocessor.content_hash(image) for image in images),
        )

    def prompt(
        self,
        messages: Sequence[Message],
        grids: Sequence[Grid] = (),
        *,
        enable_thinking: bool = False,
        max_positions: int | None = None,
    ) -> Prompt:
        """The prompt of a conversation about images of these grids. Raises PromptError."""
        if grids and not self.reads_images:
            raise PromptError(f"this checkpoint reads text only; {len(grids)} images were given")
        limit = min(self.max_positions, max_positions or self.max_positions)
        return self.prompts.build(
            messages, grids, max_positions=limit, enable_thinking=enable_thinking
        )

    def pixels(self, prepared: PreparedPrompt) -> list[torch.Tensor]:
        """Normalised pixels of each image, float32 `[3, H, W]` on the CPU. Imports torch."""
        return [self.preprocessor.pixels(image) for image in prepared.images]

    def detokenizer(self, skip_special: bool = True) -> IncrementalDetokenizer:
        """A fresh stream from ids to text, without special tokens unless they are wanted."""
        return IncrementalDetokenizer(self.tokenizer, skip_special)
