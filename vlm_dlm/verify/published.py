"""Tokens per forward as published (arXiv 2607.05722, tables 5 to 9; averages over benchmarks)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """Tokens per forward of one checkpoint, as published.

    diffusion: threshold 0.9.
    linear: without a draft adapter where both are published; the VLM's table does not say.
    """

    diffusion: float
    linear: float


# (layers, width, has a vision tower)
PUBLISHED = {
    (34, 4096, True): Published(2.46, 3.63),
    (34, 4096, False): Published(2.57, 4.52),
    (26, 3072, False): Published(1.91, 3.81),
    (40, 5120, False): Published(2.74, 4.67),
}
