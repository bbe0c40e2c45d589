"""Everything that can be refused before torch is imported, so that bad input costs no waiting.

Order: modes and their options, sampling, images, checkpoint, prompt. Each step raises a
VlmDlmError whose message names the problem and the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_dlm.answer_room import fit_answer
from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.checkpoint.manifest import check_manifest, read_manifest
from vlm_dlm.checkpoint.model_types import read_config
from vlm_dlm.checkpoint.record import check_record
from vlm_dlm.checkpoint.resolve import resolve_checkpoint
from vlm_dlm.decoding import MODES, build_params, find_mode
from vlm_dlm.defaults import EMBEDDED, embedded_checkpoint
from vlm_dlm.errors import BadInputError, ImageError, ModeError
from vlm_dlm.processor.image_input import read_image, upright_rgb
from vlm_dlm.processor.processor import PreparedPrompt, Processor
from vlm_dlm.processor.prompt import ImagePart, Message, TextPart
from vlm_dlm.request import SamplingParams

MAX_IMAGES = 16
ImageSource = Path | str | bytes | Image.Image


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that passed every check but that of reading its weights. name: as typed."""

    name: str
    folder: Path
    config: ModelConfig
    processor: Processor


def parse_modes(
    names: str | Sequence[str] | None, offered: Sequence[str] = tuple(MODES)
) -> tuple[str, ...]:
    """Modes by name or alias, as 'ar,diffusion' or a list; None means all. No mode twice.

    offered: those that an error lists. Whether a known mode is among them is not checked.
    """
    if names is None:
        return tuple(offered)
    listed = names.split(",") if isinstance(names, str) else names
    modes = tuple(find_mode(name.strip(), offered).name for name in listed)
    if not modes:
        raise ModeError(f"no mode given; the modes are {', '.join(offered)}")
    twice = [mode for mode in modes if modes.count(mode) > 1]
    if twice:
        raise ModeError(f"mode {twice[0]} is listed twice")
    return modes


def mode_params(
    modes: Sequence[str], options: Mapping[str, Any], is_shared: bool = False
) -> dict[str, Any]:
    """Checked Params per mode from the options that were given; None is a value like any other.

    Raises ModeError for an option that the mode lacks or a value it cannot run. With `is_shared`
    an option goes to the modes that have it, and only one that none of them has is an error.
    """
    known = {mode: {field.name for field in fields(MODES[mode].Params)} for mode in modes}
    if is_shared:
        for name in options:
            if not any(name in names for names in known.values()):
                raise ModeError(f"none of the modes {', '.join(modes)} has an option {name}")
    return {
        mode: build_params(
            MODES[mode],
            {name: options[name] for name in options if name in known[mode] or not is_shared},
        )
        for mode in modes
    }


def read_images(sources: Sequence[ImageSource], apply_exif: bool = True) -> tuple[Image.Image, ...]:
    """Decode images: paths, file contents, or opened ones. Raises ImageError."""
    check_num_images(len(sources))
    return tuple(_read(source, apply_exif) for source in sources)


def check_num_images(num: int, limit: int = MAX_IMAGES, setting: str | None = None) -> None:
    """Raise ImageError for more images than one request may bring. setting: of the limit."""
    if num > limit:
        named = "" if setting is None else f" ({setting})"
        raise ImageError(f"{num} images were given; the limit is {limit}{named}")


def _read(source: ImageSource, apply_exif: bool) -> Image.Image:
    if source == "":
        raise ImageError("the path of an image is empty")
    if isinstance(source, Image.Image):
        return upright_rgb(source, apply_exif=apply_exif)
    return read_image(Path(source) if isinstance(source, str) else source, apply_exif=apply_exif)


def open_checkpoint(model: str | Path | None = None) -> Checkpoint:
    """Find a checkpoint and check config, tensor names and shapes, tokenizer and template.

    None means the embedded one. A Hub id is downloaded if need be. Raises CheckpointError.
    """
    folder = embedded_checkpoint() if model is None else resolve_checkpoint(str(model))
    check_record(folder)
    config = read_config(folder)
    check_manifest(config, read_manifest(folder))
    name = EMBEDDED if model is None else str(model)
    return Checkpoint(name, folder, config, Processor.from_folder(folder, config))


def conversation(prompt: str, num_images: int, system: str | None = None) -> tuple[Message, ...]:
    """One question about some images, which come before the text."""
    parts = (*(ImagePart(index) for index in range(num_images)), TextPart(prompt))
    turns = () if system is None else (Message.of("system", system),)
    return (*turns, Message("user", parts))


def prepare_prompt(
    checkpoint: Checkpoint,
    messages: Sequence[Message],
    images: Sequence[Image.Image],
    max_tokens: int | None,
    enable_thinking: bool = False,
) -> PreparedPrompt:
    """Prompt ids. Raises ContextLengthError if prompt and answer together exceed the context."""
    prepared = checkpoint.processor.prepare(messages, images, enable_thinking=enable_thinking)
    check_context(checkpoint, len(prepared.token_ids), max_tokens)
    return prepared


def check_context(checkpoint: Checkpoint, num_prompt: int, max_tokens: int | None) -> None:
    """Raise ContextLengthError if a prompt of so many tokens and its answer exceed the context."""
    sampling = SamplingParams(max_tokens=max_tokens)
    fit_answer(sampling, num_prompt, checkpoint.config.max_position_embeddings)


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Raise BadInputError unless low <= value <= high."""
    if not low <= value <= high:
        raise BadInputError(f"{name} is {value:g}; it must lie in {low:g} to {high:g}")
