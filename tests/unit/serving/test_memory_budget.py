"""The sum of all shares stays under the limit, and pictures cost what their format takes."""

from __future__ import annotations

import pytest

from tests.corpus.images import picture, png
from vlm_dlm.preflight import open_checkpoint
from vlm_dlm.serving.memory_budget import LEAST, MIB, MOST, MemoryBudget, fixed_bytes, share_out
from vlm_dlm.serving.pictures.decode_cost import decode_cost

MEGAPIXELS = 40_000_000
FORTY = (8000, 5000)
MAX_SIDE = 896


def embedded_bytes() -> int:
    return fixed_bytes(open_checkpoint().config, "float32")


@pytest.mark.parametrize("gib", [2, 3, 4, 16, 256])
def test_everything_together_fits(gib: int) -> None:
    limit, fixed = gib << 30, embedded_bytes()
    budget = share_out(limit, fixed)
    assert fixed + budget.decode + budget.pixels + budget.bodies < limit
    assert budget.decode <= MOST[0]


def test_in_the_compose_files_limit_one_picture_of_every_common_format_fits() -> None:
    budget = share_out(2 << 30, embedded_bytes())
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        assert decode_cost(picture(kind), FORTY, MAX_SIDE) <= budget.decode, kind
        assert decode_cost(picture(kind), (4000, 4000), MAX_SIDE) <= budget.decode, kind


def test_without_room_there_is_a_least() -> None:
    assert share_out(2**20, 2**40) == MemoryBudget(*LEAST)
    assert share_out(None, 2**40) == MemoryBudget(*MOST)


def test_weights_and_cache_count_where_they_lie() -> None:
    config = open_checkpoint().config
    assert fixed_bytes(config, "float32") > fixed_bytes(config, "bfloat16") > fixed_bytes(None, "x")
    plain = fixed_bytes(config, "float32")
    assert fixed_bytes(config, "float32", has_spare=False) < plain
    assert fixed_bytes(config, "float32", has_page=False) < plain


def test_a_large_jpeg_is_cheap_unless_it_is_progressive() -> None:
    plain = decode_cost(picture("JPEG"), FORTY, MAX_SIDE)
    progressive = decode_cost(picture("JPEG", progressive=True), FORTY, MAX_SIDE)
    assert plain < 60 * MIB < 200 * MIB < progressive
    assert decode_cost(png(20, 20), FORTY, MAX_SIDE) > 150 * MIB
    assert decode_cost(picture("JPEG"), FORTY, None) > 600 * MIB
    assert decode_cost(b"\xff\xd8\xff\xd9", FORTY, MAX_SIDE) == progressive - 2 * (
        len(picture("JPEG", progressive=True)) - 4
    )
