"""What `generate` and `compare` share: check everything first, then load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_dlm.answer_room import fit_answer
from vlm_dlm.defaults import DEVICES, DTYPES, check_choice
from vlm_dlm.errors import CheckpointError, ModeError
from vlm_dlm.model.quantization import check_quantize
from vlm_dlm.preflight import (
    Checkpoint,
    conversation,
    mode_params,
    open_checkpoint,
    prepare_prompt,
    read_images,
)

if TYPE_CHECKING:
    from vlm_dlm.processor.processor import PreparedPrompt
    from vlm_dlm.request import SamplingParams
    from vlm_dlm.runtime import Runtime
    from vlm_dlm.structure import Structure


@dataclass(frozen=True, slots=True)
class Place:
    """Which weights, and where they run, as typed."""

    model: str | None
    device: str
    dtype: str
    adapter: Path | None = None
    quantize: str | None = None

    def check(self) -> None:
        """Raise for names that cannot be right, without looking at any file but the adapter's."""
        check_choice("device", self.device, DEVICES)
        check_choice("dtype", self.dtype, DTYPES)
        check_quantize(self.quantize)
        if self.adapter is not None and not (self.adapter / "adapter_config.json").is_file():
            raise CheckpointError(f"no adapter_config.json in {self.adapter}")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as typed."""

    images: Sequence[str]
    prompt: str
    system: str | None
    is_upright: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """Input that has passed every check which needs no weights."""

    place: Place
    checkpoint: Checkpoint
    prompt: PreparedPrompt
    params: Mapping[str, Any]
    sampling: SamplingParams


def options_line(options: Iterable[str], params: Mapping[str, Any]) -> str:
    """What every mode makes of the options that were typed: 'ar: -; diffusion: threshold 0.5'."""
    modes: list[str] = []
    for mode, chosen in params.items():
        own = (name for name in options if hasattr(chosen, name))
        texts = (f"{name} {str(getattr(chosen, name)).lower()}" for name in own)
        modes.append(f"{mode}: {', '.join(texts) or '-'}")
    return f"Options: {'; '.join(modes)}"


def check(
    modes: Sequence[str],
    options: Mapping[str, Any],
    sampling: SamplingParams,
    question: Question,
    place: Place,
) -> Checked:
    """Refuse bad input, cheapest checks first. With several modes an option may suit only some."""
    params = mode_params(modes, options, is_shared=len(modes) > 1)
    place.check()
    can_draft = any(getattr(chosen, "use_adapter", False) for chosen in params.values())
    if place.adapter is not None and not can_draft:
        raise ModeError(f"none of the modes {', '.join(modes)} drafts with an adapter")
    images = read_images(question.images, question.is_upright)
    checkpoint = open_checkpoint(place.model)
    if sampling.structure is not None:
        _check_structure(checkpoint, sampling.structure)
    messages = conversation(question.prompt, len(images), question.system)
    is_thinking = sampling.max_thinking_tokens is not None
    prompt = prepare_prompt(checkpoint, messages, images, sampling.max_tokens, is_thinking)
    sampling = fit_answer(
        sampling, len(prompt.token_ids), checkpoint.config.max_position_embeddings
    )
    return Checked(place, checkpoint, prompt, params, sampling)


def _check_structure(checkpoint: Checkpoint, structure: Structure) -> None:
    """Before the weights are read. Raises StructureError."""
    from vlm_dlm.grammar.compiler import GrammarCompiler

    tokenizer = checkpoint.processor.tokenizer
    ending_ids = frozenset(tokenizer.special.eos)
    GrammarCompiler(tokenizer, checkpoint.config.vocab_size, ending_ids).compile(structure)


def load(checked: Checked) -> Runtime:
    """The runtime for checked input, with a cache of just the size it needs."""
    from vlm_dlm.cli.output import load_progress
    from vlm_dlm.runtime import Runtime, fitting_config

    max_tokens = checked.sampling.max_tokens
    assert max_tokens is not None, "it has been fitted"
    config = fitting_config(len(checked.prompt.token_ids), max_tokens, checked.params)
    place = checked.place
    with load_progress() as progress:
        return Runtime.load(
            checked.checkpoint,
            place.device,
            place.dtype,
            place.adapter,
            progress,
            config,
            place.quantize,
        )
