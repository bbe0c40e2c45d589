"""Conversation to prompt ids: chat template, image token runs, and text that stays text.

User text never takes part in the rendering. A random stand-in does, and the text replaces it after
the special tokens of the template have been found. See `docs/checkpoint.md`, chat template.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from vlm_dlm.answer_room import prompt_too_long
from vlm_dlm.checkpoint.model_types import SpecialTokens
from vlm_dlm.errors import CheckpointError, PromptError
from vlm_dlm.processor.chat_template import ChatTemplate
from vlm_dlm.processor.image import Grid
from vlm_dlm.processor.tokenizer import ImageIds, Tokenizer

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Untrusted text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The place of an image; `index` counts the images of the whole conversation from 0."""

    index: int


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Only user turns hold images."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        """A turn of text only."""
        return cls(role, (TextPart(text),))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready for prefill.

    token_ids: of the whole prompt, images included.
    num_image_tokens: of all images, their start, row break and end tokens included.
    """

    token_ids: tuple[int, ...]
    num_image_tokens: int


@dataclass(slots=True)
class _StandIns:
    """Random names for the texts of one prompt; 128 bits, so no text can contain one by luck."""

    key: str = field(default_factory=lambda: f"text{secrets.token_hex(16)}n")
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> str:
        # templates test content for emptiness, so an empty text stays empty
        if not text:
            return ""
        self.texts.append(text)
        return f"{self.key}{len(self.texts) - 1}e"

    def split(self, rendered: str) -> list[str]:
        """Template text and texts in turn: even entries are template, odd ones indices."""
        pieces = re.split(f"{self.key}([0-9]+)e", rendered)
        order = [int(piece) for piece in pieces[1::2]]
        if order != list(range(len(self.texts))):
            raise CheckpointError(
                f"the chat template writes {len(order)} of {len(self.texts)} message texts, "
                "or not in order"
            )
        return pieces


class PromptBuilder:
    """Builds prompts for one checkpoint. Stateless between calls."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template or ChatTemplate()

    @property
    def has_own_template(self) -> bool:
        """Whether the checkpoint brings one, which is rendered in a process."""
        return self._template.has_process

    def build(
        self,
        messages: Sequence[Message],
        grids: Sequence[Grid] = (),
        *,
        max_positions: int,
        enable_thinking: bool = False,
    ) -> Prompt:
        """Ids of the conversation, ending where the answer begins.

        `grids[k]` is the grid of image k. Raises PromptError for an invalid conversation,
        ContextLengthError for more than `max_positions` tokens, CheckpointError when the template
        loses text or images.
        """
        _check_messages(messages, len(grids))
        stand_ins, special = _StandIns(), self._tokenizer.names
        turns = [_as_dict(message, stand_ins, special) for message in messages]
        rendered = self._template.render(turns, enable_thinking)
        pieces = list(self._pieces(stand_ins.split(rendered), stand_ins.texts))
        prompt = self._assemble(pieces, grids)
        self._check(prompt, grids)
        if len(prompt.token_ids) > max_positions:
            raise prompt_too_long(len(prompt.token_ids), max_positions)
        return prompt

    def _pieces(self, split: list[str], texts: Sequence[str]) -> Iterator[str | int]:
        """Special ids, and the plain text between two of them as one string.

        Template text and user text are joined before encoding: a line break of the template and one
        of the user must merge into one token, as when the whole prompt is encoded at once.
        """
        plain = ""
        for position, piece in enumerate(split):
            if position % 2:
                plain += texts[int(piece)]
                continue
            for part in self._tokenizer.split_template(piece):
                if isinstance(part, str):
                    plain += part
                    continue
                if plain:
                    yield plain
                yield part
                plain = ""
        if plain:
            yield plain

    def _assemble(self, pieces: Sequence[str | int], grids: Sequence[Grid]) -> Prompt:
        image = self._tokenizer.special.image
        num_markers = 0 if image is None else pieces.count(image.start)
        if num_markers != len(grids):
            raise CheckpointError(
                f"the chat template writes {num_markers} image markers for {len(grids)} images"
            )
        ids: list[int] = []
        left = iter(grids)
        for piece in pieces:
            if isinstance(piece, str):
                ids += self._tokenizer.encode_text(piece)
            elif image is not None and piece == image.start:
                ids += image_run(next(left), image)
            else:
                ids.append(piece)
        return Prompt(tuple(ids), sum(grid.num_tokens for grid in grids))

    def _check(self, prompt: Prompt, grids: Sequence[Grid]) -> None:
        """What the model relies on: one pad per feature, and no hole for the denoiser to fill."""
        special = self._tokenizer.special
        if special.mask in prompt.token_ids:
            raise PromptError("the prompt contains the mask token")
        if special.image is None:
            return
        expected = {
            special.image.start: len(grids),
            special.image.pad: sum(grid.num_pads for grid in grids),
            special.image.row_break: sum(grid.rows - 1 for grid in grids),
            special.image.end: len(grids),
        }
        for token_id, count in expected.items():
            found = prompt.token_ids.count(token_id)
            if found != count:
                raise PromptError(
                    f"the prompt has {found} tokens with id {token_id}; its images need {count}"
                )


def image_run(grid: Grid, image: ImageIds) -> list[int]:
    """Token run of one image: start, rows of pads with a break between rows, end."""
    row = [image.pad] * grid.columns
    rows = [*row, image.row_break] * (grid.rows - 1)
    return [image.start, *rows, *row, image.end]


def _check_messages(messages: Sequence[Message], num_images: int) -> None:
    if not any(message.role == "user" for message in messages):
        raise PromptError("the conversation needs a user message")
    for position, message in enumerate(messages):
        if message.role not in get_args(Role):
            raise PromptError(
                f"unknown role {message.role!r}; known are {', '.join(get_args(Role))}"
            )
        if message.role == "system" and position > 0:
            raise PromptError("only the first message can be a system message")
        if message.role != "user" and any(isinstance(part, ImagePart) for part in message.parts):
            raise PromptError(f"messages of role {message.role} cannot hold images")
    parts = (part for message in messages for part in message.parts)
    named = [part.index for part in parts if isinstance(part, ImagePart)]
    if named != list(range(num_images)):
        raise PromptError(
            f"the messages name images {named}; "
            f"{num_images} were given and each must be named once, in order"
        )


def _as_dict(message: Message, stand_ins: _StandIns, special: SpecialTokens) -> dict[str, Any]:
    """The message as templates expect it: a string, or a list of parts where there are images."""
    contents: list[dict[str, Any]] = []
    run = ""
    for part in message.parts:
        if isinstance(part, TextPart):
            run += part.text
            continue
        if run:
            contents.append({"type": "text", "text": stand_ins.add(run)})
        contents.append({"type": "image_url", "image_url": {"url": ""}})
        run = ""
    if not contents:
        text = without_thoughts(run, special) if message.role == "assistant" else run
        return {"role": message.role, "content": stand_ins.add(text)}
    if run:
        contents.append({"type": "text", "text": stand_ins.add(run)})
    return {"role": message.role, "content": contents}


def without_thoughts(answer: str, special: SpecialTokens) -> str:
    """A past answer as the model is to see it again: without what stands between the think marks.

    The opening marker may be missing, since the prompt can end with it; an unfinished thought is
    cut to the end.
    """
    _, closing, after = answer.rpartition(special.think_end)
    kept = after.lstrip("\n") if closing else answer
    return kept.partition(special.think_start)[0]
