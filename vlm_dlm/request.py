"""What a caller asks for, independent of transport and backend."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from vlm_dlm.errors import BadInputError
from vlm_dlm.structure import Structure

# What the answers of all other modes are held against: the model as it is, token by token.
REFERENCE_MODE = "ar"
# What writes where nobody chooses.
DEFAULT_MODE = "linear_spec"
MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256  # of one stop string
MAX_STOP_TOKEN_IDS = 64
MAX_BIASED = 1024
MAX_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class DecodingIds:
    """The special ids that decoding itself needs."""

    mask: int
    eos: frozenset[int]
    end_think: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen, in every mode. Greedy by default.

    temperature: 0 is greedy; above it a token is drawn from those that min_p, top_k and top_p
        leave, applied in this order.
    top_p: of what the others leave, the smallest set of this mass.
    seed: None draws a fresh one.
    max_tokens: of the answer; None takes what fits, see `answer_room.py`.
    max_thinking_tokens: budget after which the end of the thought is forced; needs a checkpoint
        with an end-of-thought token.
    stop: the answer ends before the first of these texts to be complete.
    top_k: so many of the best; 0 for all.
    min_p: the least probability, as a share of the best one's; 0 for none.
    min_tokens: before so many tokens no end token and none of stop_token_ids is chosen, and no stop
        text counts.
    ignore_eos: the end token is a token like any other and ends nothing.
    stop_token_ids: further tokens that end the answer, like an end token, whose text is not part of
        it.
    skip_special_tokens: they have no text.
    presence_penalty, frequency_penalty, repetition_penalty, logit_bias, bad_words: see
        `decoding/penalties.py`; logit_bias by token id, bad_words as tokens.
    num_logprobs: keep the log-probability of each token, and of so many of the best at its place;
        None for neither.
    structure: what the answer must be like; it then ends where it is whole, whatever `min_tokens`
        and `ignore_eos` say.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    max_thinking_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    skip_special_tokens: bool = True
    structure: Structure | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    num_logprobs: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= 10.0):
            raise BadInputError(f"temperature is {self.temperature}; it must lie in 0 to 10")
        if not 0.0 < self.top_p <= 1.0:
            raise BadInputError(f"top_p is {self.top_p}; it must lie above 0 and at most at 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise BadInputError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise BadInputError(f"seed is {self.seed}; it must lie in 0 to 2^63 - 1")
        if self.max_thinking_tokens is not None and self.max_thinking_tokens < 0:
            raise BadInputError(
                f"max_thinking_tokens is {self.max_thinking_tokens}; it must be at least 0"
            )
        if self.stop:
            _check_stop(self.stop)
        if self.top_k < 0:
            raise BadInputError(f"top_k is {self.top_k}; it must be at least 0, which means all")
        if not 0.0 <= self.min_p <= 1.0:
            raise BadInputError(f"min_p is {self.min_p}; it must lie in 0 to 1")
        if self.min_tokens < 0:
            raise BadInputError(f"min_tokens is {self.min_tokens}; it must be at least 0")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise BadInputError(
                f"min_tokens is {self.min_tokens}; it must not be above max_tokens, "
                f"which is {self.max_tokens}"
            )
        if self.structure is not None and self.max_thinking_tokens is not None:
            raise BadInputError(
                "max_thinking_tokens does not go with a structure, which holds from the first token"
            )
        _check_stop_token_ids(self.stop_token_ids)
        self._check_penalties()

    def _check_penalties(self) -> None:
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            if not -2.0 <= value <= 2.0:
                raise BadInputError(f"{name} is {value}; it must lie in -2 to 2")
        if not 0.01 <= self.repetition_penalty <= 10.0:
            raise BadInputError(
                f"repetition_penalty is {self.repetition_penalty}; it must lie in 0.01 to 10"
            )
        for token_id, value in self.logit_bias:
            if not -100.0 <= value <= 100.0 or token_id < 0:
                raise BadInputError(
                    f"logit_bias has {value} for {token_id}; it must lie in -100 to 100"
                )
        num = len(self.logit_bias), len(self.bad_words)
        if max(num) > MAX_BIASED:
            raise BadInputError(
                f"logit_bias or bad_words has {max(num)} entries; at most {MAX_BIASED} are possible"
            )
        if not all(word and min(word) >= 0 for word in self.bad_words):
            raise BadInputError("a bad word is empty; it must have at least 1 token")
        if self.num_logprobs is not None and not 0 <= self.num_logprobs <= MAX_LOGPROBS:
            raise BadInputError(
                f"top_logprobs is {self.num_logprobs}; it must lie in 0 to {MAX_LOGPROBS}"
            )

    def ending_ids(self, eos: Iterable[int]) -> frozenset[int]:
        """The tokens that end the answer. eos: the checkpoint's end tokens."""
        is_ignored = self.ignore_eos and self.structure is None
        return frozenset(() if is_ignored else eos) | frozenset(self.stop_token_ids)

    def delayed_ids(self, eos: Iterable[int]) -> frozenset[int]:
        """The tokens that are not chosen before `min_tokens`: also an end token that ends nothing,
        as in vLLM."""
        if not self.min_tokens or self.structure is not None:
            return frozenset()
        return frozenset(eos) | frozenset(self.stop_token_ids)


def _check_stop_token_ids(token_ids: tuple[int, ...]) -> None:
    if len(token_ids) > MAX_STOP_TOKEN_IDS:
        raise BadInputError(
            f"stop_token_ids has {len(token_ids)} ids; at most {MAX_STOP_TOKEN_IDS} are possible"
        )
    if token_ids and min(token_ids) < 0:
        raise BadInputError(f"stop_token_ids has {min(token_ids)}; ids begin at 0")


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > MAX_STOP_STRINGS:
        raise BadInputError(
            f"stop has {len(stop)} strings; at most {MAX_STOP_STRINGS} are possible"
        )
    longest = max(len(text) for text in stop)
    if longest > MAX_STOP_CHARS:
        raise BadInputError(
            f"a stop string has {longest} characters; at most {MAX_STOP_CHARS} are possible"
        )
    if "" in stop:
        raise BadInputError("a stop string is empty; it must have at least 1 character")


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image of a prompt.

    pixels: float32 tensor or array [3, H, W], resized and normalised.
    content_hash: key of its features.
    num_tokens: placeholders this image fills.
    picture: what the pixels were made of, an RGB image of Pillow's, for an engine that makes them
        itself; None where none does.
    """

    pixels: Any
    content_hash: str
    num_tokens: int
    picture: Any = None


@dataclass(frozen=True, slots=True)
class PromptInput:
    """A prompt ready for the model: ids with placeholders, and the images that fill them."""

    token_ids: tuple[int, ...]
    images: tuple[ImageInput, ...] = ()

    @property
    def num_image_tokens(self) -> int:
        return sum(image.num_tokens for image in self.images)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for prompts that give equal keys and values."""
        return (self.token_ids, tuple(image.content_hash for image in self.images))


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer in one mode.

    params: the mode's own dataclass; None means its defaults.
    keep_prompt: leave the prompt's cache behind, so that a later request with the same prompt need
        not compute it again.
    """

    request_id: str
    prompt: PromptInput
    mode: str = REFERENCE_MODE
    params: Any = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    keep_prompt: bool = False

    def without_pixels(self) -> GenerationRequest:
        """The same request for who only needs to know about it; counts and keys stay."""
        images = tuple(replace(image, pixels=None, picture=None) for image in self.prompt.images)
        return replace(self, prompt=replace(self.prompt, images=images)) if images else self
