"""What runs the forwards of an engine core: it owns the keys, the values and the image features.

The core says which slots are whose; what lies in them, and on which device, only the runner knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlm_dlm.engine.pages import PageTable
from vlm_dlm.engine.rows import PackedRows
from vlm_dlm.request import ImageInput

if TYPE_CHECKING:
    from torch import Tensor


class Runner(ABC):
    """One model with its cache. Not thread safe: the core's thread owns it.

    num_slots: tokens that its cache holds.
    max_context: tokens of the longest prompt with its answer.
    image_token_id: the placeholder that image features fill; None where it takes no images.
    """

    num_slots: int
    max_context: int
    image_token_id: int | None

    @abstractmethod
    def run(self, batch: Sequence[PackedRows]) -> list[Tensor]:
        """One forward over all rows of all requests. Writes keys and values of every row to the
        slots after `cache_len`; returns logits [logit_rows_i, V] of each."""

    @abstractmethod
    def encode(self, image: ImageInput) -> Tensor:
        """Features [num_tokens, D] of one image. Raises what is wrong with it."""

    @abstractmethod
    def copy(self, source: PageTable, target: PageTable, num_tokens: int) -> None:
        """Copy keys and values of the first `num_tokens` tokens of one table to another."""

    def is_encoded(self, image: ImageInput) -> bool:
        """Whether `encode` would only hand out what it has kept."""
        del image  # for runners that keep features
        return False

    def synchronize(self) -> None:  # noqa: B027 -- nothing to do where nothing is asynchronous
        """Wait for the device, so that a time taken next covers the work after it."""

    def free_unused(self) -> None:  # noqa: B027 -- likewise
        """Give up features that are only kept, and memory that nothing holds any more."""
