"""Batches of both stages, rendered ahead by worker processes.

A batch depends on (seed, stage, step) only, so a resumed run sees the stream that an uninterrupted
one would have seen. All images of a batch share one grid of image tokens and stack.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlm_dlm.processor.image import Preprocessor
from vlm_dlm.scenes.labels import CELL_PX, LABEL_SIZES, grid_of
from vlm_dlm.scenes.language import QA, TEXT_ONLY, caption_prompt
from vlm_dlm.scenes.samples import Sample, make_sample, sample_rng
from vlm_dlm.scenes.scenes import MIN_SIDE, sample_canvas, sample_wide_canvas
from vlm_dlm.training.packing import PackedRow, PairTokens, choose_pairs, pack_row
from vlm_dlm.training.recipe import Recipe
from vlm_dlm.training.text_coder import TextCoder

Batch = dict[str, Tensor]

_STRIDE = 1024  # sample indices that one step may use
_STAGE_OFFSET = {"vision": 0, "joint": 10**9}
_WORKER_NICENESS = 10
# Asking the same of every bar or object makes an answer depend on the one that is named.
_NUM_QUESTIONS, _MAX_PER_KIND = 16, 6
# The kinds that the first checkpoints were weakest at come first more often.
_KIND_WEIGHTS = {
    "count_colour": 4.0,
    "count_shape": 4.0,
    "exists": 2.5,
    "text": 3.0,
    "number": 3.0,
    "count": 2.0,
    "relation": 3.0,
    "size_of": 2.0,
    "where": 1.5,
    "tallest": 2.5,
    "shortest": 2.5,
    "taller": 4.0,
    "value_of": 4.0,
}

_SMALL_SIDE = 140  # pixels of the longer side of a small picture

# A lesson: small pictures of a few objects, and questions that say what to look up.
_LESSON_SIDE, _LESSON_MIN_CELLS = 168, 3
_LESSON_CHART_CELLS = (5, 8)  # from and below; large enough for charts, which half of them hold
_LESSON_KINDS = frozenset(
    [
        "value_of",
        "taller",
        "where",
        "size_of",
        "colour_of",
        "exists",
        "count_colour",
        "count_shape",
        "relation",
    ]
)


def preprocessor_of(recipe: Recipe) -> Preprocessor:
    """The preprocessing that the checkpoint will ship."""
    return Preprocessor(recipe.max_side, mean=recipe.image_mean, std=recipe.image_std)


class StageDataset(Dataset[Batch]):
    """What both stages share: item `step` is the batch of that step."""

    stage = ""
    dense_share = 0.0  # of samples that are crowded scenes

    def __init__(self, recipe: Recipe, seed: int, split: str = "train") -> None:
        self.recipe = recipe
        self.seed = seed
        self.split = split
        self.preprocessor = preprocessor_of(recipe)

    def rng(self, step: int) -> np.random.Generator:
        """Source of the choices of one step."""
        return sample_rng(step, self.split, self.seed, f"{self.stage} batch")

    def samples(
        self,
        step: int,
        num_cells: tuple[int, int],
        count: int,
        rng: np.random.Generator,
        dense_share: float,
    ) -> list[Sample]:
        """`count` new samples with images of (rows, columns) cells."""
        first = _STAGE_OFFSET[self.stage] + step * _STRIDE
        return [
            make_sample(
                first + number,
                self.split,
                self.seed,
                self.recipe.max_side,
                _NUM_QUESTIONS,
                _sample_size(num_cells, rng),
                bool(rng.random() < dense_share),
                _MAX_PER_KIND,
            )
            for number in range(count)
        ]

    def images(self, samples: list[Sample]) -> Batch:
        """ "pixels" float32 [n, 3, 28h, 28w], and every dense label int64 [n, h * w]."""
        pixels = torch.stack([self.preprocessor.pixels(sample.image) for sample in samples])
        batch = {"pixels": pixels}
        for name in LABEL_SIZES:
            labels = np.stack([sample.labels[name].reshape(-1) for sample in samples])
            batch[name] = torch.from_numpy(labels)
        return batch


def _draw_grid(rng: np.random.Generator, recipe: Recipe) -> tuple[int, int]:
    max_side, role = recipe.max_side, rng.random()
    if role < recipe.small_share:
        max_side = min(_SMALL_SIDE, max_side)
    elif role > 1.0 - recipe.wide_share:
        return grid_of(*sample_wide_canvas(rng, max_side))
    return grid_of(*sample_canvas(rng, max_side))


def _sample_size(num_cells: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Height and width in pixels that give the grid; most images of square grids are square."""
    height, width = (
        int(rng.integers(max(MIN_SIDE, CELL_PX * (cells - 1) + 1), CELL_PX * cells + 1))
        for cells in num_cells
    )
    if num_cells[0] == num_cells[1] and rng.random() < 0.8:
        width = height
    return height, width


class VisionDataset(StageDataset):
    """Images with their dense labels."""

    stage = "vision"
    dense_share = 0.5  # more to read per image, so that words and digits are seen often enough

    def __getitem__(self, step: int) -> Batch:
        rng = self.rng(step)
        num_cells = _draw_grid(rng, self.recipe)
        num_images = self.recipe.vision_cells // (num_cells[0] * num_cells[1])
        count = max(4, min(self.recipe.max_vision_images, num_images))
        samples = self.samples(step, num_cells, count, rng, self.dense_share)
        return self.images(samples)


class JointDataset(StageDataset):
    """Packed rows: the arrays of `PackedRow` stacked, "prefix_ids" int64 [P] with "prefix_length",
    and what `images` gives unless the batch is text only."""

    stage = "joint"
    dense_share = 0.25  # captions of crowded scenes do not fit, so their rows hold questions only

    def __init__(
        self, recipe: Recipe, seed: int, tokenizer: Tokenizer, split: str = "train"
    ) -> None:
        super().__init__(recipe, seed, split)
        self.coder = TextCoder(tokenizer)

    def __getitem__(self, step: int) -> Batch:
        rng = self.rng(step)
        if rng.random() < self.recipe.text_only_share:
            return self._text_batch(rng)
        if self.split == "train" and step < self.recipe.lesson_steps:
            return self._lesson(step, rng)
        num_cells = _draw_grid(rng, self.recipe)
        prefix = self.coder.prefix(num_cells)
        samples = self.samples(step, num_cells, self._num_rows(prefix), rng, self.dense_share)
        rows = [self._row(self._image_pairs(sample, rng), rng) for sample in samples]
        return {**self._batch(prefix, rows), **self.images(samples)}

    def _lesson(self, step: int, rng: np.random.Generator) -> Batch:
        """Rows of look-ups only. An answer that depends on the object named is learnt from these;
        among captions and large pictures it stayed at chance for hours."""
        largest = self.recipe.max_side // CELL_PX
        num_cells = (0, 0)
        if rng.random() < 0.5:
            rows, columns = (min(largest, int(n)) for n in rng.integers(*_LESSON_CHART_CELLS, 2))
            num_cells = (rows, columns)
        while min(num_cells) < _LESSON_MIN_CELLS:
            num_cells = grid_of(*sample_canvas(rng, min(_LESSON_SIDE, self.recipe.max_side)))
        prefix = self.coder.prefix(num_cells)
        samples = self.samples(step, num_cells, self._num_rows(prefix), rng, dense_share=0.0)
        packed = []
        for sample in samples:
            lookups = [qa for qa in sample.questions if qa.kind in _LESSON_KINDS]
            order = rng.permutation(len(lookups))
            packed.append(self._row([self._pair(lookups[index]) for index in order], rng))
        return {**self._batch(prefix, packed), **self.images(samples)}

    def _text_batch(self, rng: np.random.Generator) -> Batch:
        prefix = self.coder.prefix(None)
        rows = []
        for _ in range(self._num_rows(prefix)):
            pairs = [TEXT_ONLY[index] for index in rng.permutation(len(TEXT_ONLY))]
            rows.append(self._row([self._pair(qa) for qa in pairs], rng))
        return self._batch(prefix, rows)

    def _bucket(self, prefix: tuple[int, ...]) -> int:
        return next(size for size in self.recipe.prefix_buckets if size >= len(prefix))

    def _num_rows(self, prefix: tuple[int, ...]) -> int:
        """Rows of a batch: fixed per bucket, since every shape is compiled."""
        streams = self.recipe.clean_tokens + self.recipe.noisy_tokens
        return max(1, self.recipe.row_tokens // (self._bucket(prefix) + streams))

    def _image_pairs(self, sample: Sample, rng: np.random.Generator) -> list[PairTokens]:
        """The caption first in most rows, then questions, weak kinds earlier."""
        weights = np.array([_KIND_WEIGHTS.get(qa.kind, 1.0) for qa in sample.questions])
        order = np.argsort(rng.exponential(size=len(weights)) / weights)  # weighted shuffle
        pairs = [self._pair(sample.questions[index]) for index in order]
        if rng.random() < self.recipe.caption_share:
            pairs.insert(0, self.coder.pair(caption_prompt(rng), sample.caption, is_caption=True))
        return pairs

    def _pair(self, qa: QA) -> PairTokens:
        return self.coder.pair(qa.question, qa.answer)

    def _row(self, pairs: list[PairTokens], rng: np.random.Generator) -> PackedRow:
        return pack_row(choose_pairs(pairs, self.recipe.clean_tokens), self.recipe, rng)

    def _batch(self, prefix: tuple[int, ...], rows: list[PackedRow]) -> Batch:
        padded = np.zeros(self._bucket(prefix), np.int64)
        padded[: len(prefix)] = prefix
        batch = {
            field.name: torch.from_numpy(np.stack([getattr(row, field.name) for row in rows]))
            for field in fields(PackedRow)
        }
        return {
            **batch,
            "prefix_ids": torch.from_numpy(padded),
            "prefix_length": torch.tensor(len(prefix)),
        }


def stream(dataset: StageDataset, first_step: int, num_workers: int) -> Iterator[Batch]:
    """Batches from `first_step` on, without end, in order."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first_step, 10**6),
        num_workers=num_workers,
        prefetch_factor=6 if num_workers else None,
        worker_init_fn=_init_worker,
        multiprocessing_context="fork" if num_workers else None,
    )
    return iter(loader)


def _init_worker(worker: int) -> None:
    # The trainer's threads go first; workers catch up while it waits or runs serial parts.
    os.nice(_WORKER_NICENESS)
