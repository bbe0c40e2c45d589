"""What is run before anybody waits: a few tokens, about noise where the model reads pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vlm_dlm.preflight import Checkpoint, conversation, prepare_prompt
from vlm_dlm.processor.processor import PreparedPrompt
from vlm_dlm.request import SamplingParams

TEXT = "What is in the picture?"
START_TOKENS = 4  # of an engine that starts
COMPARE_TOKENS = 8  # of each mode before its speed is measured


def warm_up_prompt(checkpoint: Checkpoint) -> PreparedPrompt:
    """A question of its own. Raises PromptError for a model that cannot be asked."""
    pictures: list[Image.Image] = []
    if checkpoint.processor.reads_images:
        # A plain picture could be answered by a shortcut that a real one does not take.
        noise = np.random.default_rng(0).integers(0, 256, (84, 112, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(noise))
    messages = conversation(TEXT, len(pictures))
    return prepare_prompt(checkpoint, messages, pictures, START_TOKENS)


def warm_up_sampling(num_tokens: int = START_TOKENS, most: int | None = None) -> SamplingParams:
    """most: tokens that the answer may have at all, None for no limit."""
    return SamplingParams(max_tokens=num_tokens if most is None else min(num_tokens, most))
