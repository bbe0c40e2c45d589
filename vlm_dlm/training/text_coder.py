"""Sentences to ids in exactly the layout of the chat template, with the image before the question.

Questions and answers are encoded apart from the template, as the processor does, so that training
and serving never split a text differently.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from vlm_dlm.training.packing import PairTokens

HEADER = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n<think></think>"
IMAGE_START, IMAGE_PAD, IMAGE_BREAK, IMAGE_END = 18, 19, 20, 21
END_OF_TURN = 11


class TextCoder:
    """Encodes prefixes and question-answer pairs."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._header = self._encode(HEADER)
        self._tail = self._encode(TAIL)

    def prefix(self, num_cells: tuple[int, int] | None) -> tuple[int, ...]:
        """System turn, user header and the run of an image of (rows, columns) cells, if any."""
        return self._header if num_cells is None else self._header + image_run(*num_cells)

    def pair(self, question: str, answer: str, is_caption: bool = False) -> PairTokens:
        """What follows the image run up to the end of the answer."""
        prompt = self._encode(question) + self._tail
        return PairTokens(prompt, (*self._encode(answer), END_OF_TURN), is_caption, len(self._tail))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)


def image_run(rows: int, columns: int) -> tuple[int, ...]:
    """Start, pads with a break between rows, end."""
    row = (IMAGE_PAD,) * columns
    between = (*row, IMAGE_BREAK)
    return (IMAGE_START, *between * (rows - 1), *row, IMAGE_END)
