"""A loaded checkpoint, a few prompts for it, and the answers that several checks look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.preflight import mode_params
from vlm_dlm.processor.processor import PreparedPrompt
from vlm_dlm.report import Answer
from vlm_dlm.request import GenerationRequest, SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.scenes.samples import make_sample
from vlm_dlm.verify.direct import direct_logits

LONG_LIMIT = 4096  # periods of positions up to here are passed without being asked
NUM_LONG = 64  # positions past the first period
SCENE_QUESTION = "Describe the image."
FILLER = "Answer in whole sentences. "
TEXT_QUESTIONS = (
    "Explain in a few sentences how rain forms.",
    "Write a short story about a lighthouse keeper.",
    "List the planets of the solar system with one fact each.",
    "Describe how to make a cup of tea, step by step.",
    "What is the difference between weather and climate?",
    "Write a Python function that reverses a list, with an example.",
    "Summarise the story of Romeo and Juliet.",
    "Explain why the sky is blue.",
)

Say = Callable[[str], None]


def trial_limits(config: ModelConfig, max_tokens: int, is_long: bool) -> EngineConfig:
    """An engine for one prompt at a time; a long one needs more cache."""
    default, period = EngineConfig(), config.rope.original_max_position_embeddings
    if period > LONG_LIMIT and not is_long:
        return default
    rows = 2 * (period + 2 * NUM_LONG + max_tokens) + 512  # the prompt, its kept copy, branches
    return replace(default, max_cache_tokens=max(default.max_cache_tokens, rows))


class Trial:
    """Answers are computed once per mode and options."""

    def __init__(
        self, runtime: Runtime, num_prompts: int, max_tokens: int, say: Say, is_long: bool = False
    ) -> None:
        """say: told what runs. is_long: also prompts past `original_max_position_embeddings`."""
        self.runtime = runtime
        self.config = runtime.checkpoint.config
        self.max_tokens = max_tokens
        self.is_long = is_long
        self._say = say
        self.prompts = self._prompts(num_prompts)
        self._answers: dict[tuple[str, Any], list[Answer]] = {}  # by mode and Params

    def _prompts(self, num: int) -> list[PreparedPrompt]:
        if self.config.vision is None:
            questions = (TEXT_QUESTIONS[i % len(TEXT_QUESTIONS)] for i in range(num))
            return [self.runtime.prompt(text, max_tokens=self.max_tokens) for text in questions]
        images = (make_sample(i, "heldout").image for i in range(num))
        return [
            self.runtime.prompt(SCENE_QUESTION, [image], max_tokens=self.max_tokens)
            for image in images
        ]

    def long_prompt(self, num_tokens: int) -> PreparedPrompt:
        """The first question, its turn made at least `num_tokens` long: after a system message of
        that length the embedded model answers nothing."""
        encode = self.runtime.checkpoint.processor.tokenizer.encode_text
        filler = FILLER * (num_tokens // len(encode(FILLER)) + 1)
        first = self.prompts[0]
        text = TEXT_QUESTIONS[0] if self.config.vision is None else SCENE_QUESTION
        return self.runtime.prompt(filler + text, first.images, max_tokens=self.max_tokens)

    @property
    def is_exact(self) -> bool:
        """float32 activations: what is lossless is equal token by token."""
        return self.runtime.model.dtype == torch.float32

    def answers(self, mode: str, **options: Any) -> list[Answer]:
        """Greedy answers to all prompts."""
        key = (mode, mode_params([mode], options)[mode])
        if key not in self._answers:
            self._say(f"{mode} {options or ''}".strip())
            self._answers[key] = [self.answer(prompt, mode, options) for prompt in self.prompts]
        return self._answers[key]

    def answer(self, prompt: PreparedPrompt, mode: str, options: dict[str, Any]) -> Answer:
        """One greedy answer; the prompt stays cached for the next mode."""
        params = mode_params([mode], options)[mode]
        sampling = SamplingParams(max_tokens=self.max_tokens)
        inputs = self.runtime.inputs(prompt)
        return self.runtime.answers(
            [GenerationRequest(mode, inputs, mode, params, sampling, keep_prompt=True)]
        )[0]

    def logits(self, index: int, tail: Sequence[int], is_full: bool) -> Tensor:
        """Logits [Q, V] of `tail` after prompt `index`, on the CPU. is_full: the rows of the tail
        see each other; otherwise they are causal."""
        self._say(f"forward of {len(tail)} rows after prompt {index + 1}")
        inputs = self.runtime.inputs(self.prompts[index])
        runner = self.runtime.runner
        return direct_logits(runner.model, runner.image_token_id, inputs, tail, is_full)
