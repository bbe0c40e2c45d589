"""Sentences to ids in exactly the layout of the chat template, with the image before the question.

Questions and answers are encoded apart from the template, as the processor does, so that training
and serving never split a text differently.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from vlm_dlm.processor.image import Grid
from vlm_dlm.processor.prompt import image_run
from vlm_dlm.processor.tokenizer import IMAGE_IDS
from vlm_dlm.training.packing import PairTokens
from vlm_dlm.training.tokenizer import SPECIAL

_START, _END = SPECIAL.im_start, SPECIAL.im_end
HEADER = f"{_START}system\n{_END}\n{_START}user\n"
TAIL = f"{_END}\n{_START}assistant\n{SPECIAL.think_start}{SPECIAL.think_end}"


class TextCoder:
    """Encodes prefixes and question-answer pairs."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._header = self._encode(HEADER)
        self._tail = self._encode(TAIL)
        self._end = self._encode(_END)

    def prefix(self, num_cells: tuple[int, int] | None) -> tuple[int, ...]:
        """System turn, user header and the run of an image of (rows, columns) cells, if any."""
        if num_cells is None:
            return self._header
        return (*self._header, *image_run(Grid(*num_cells), IMAGE_IDS))

    def pair(self, question: str, answer: str, is_caption: bool = False) -> PairTokens:
        """What follows the image run up to the end of the answer."""
        prompt = self._encode(question) + self._tail
        return PairTokens(prompt, self._encode(answer) + self._end, is_caption, len(self._tail))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
