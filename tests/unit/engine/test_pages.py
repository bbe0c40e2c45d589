"""Pages are handed out in a row where they can be, come back, and are counted without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vlm_dlm.engine.pages import PageAllocator, PageTable


@pytest.mark.parametrize(
    "statement",
    ["from vlm_dlm import EngineConfig", "import vlm_dlm.engine.scheduler, vlm_dlm.engine.pages"],
)
def test_limits_and_the_scheduler_need_no_torch(statement: str) -> None:
    code = f"import sys\n{statement}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_pages_lie_in_a_row_where_they_can() -> None:
    allocator = PageAllocator(num_pages=8, page_size=8)
    assert [allocator.pages_for(n) for n in (0, 1, 8, 9)] == [0, 1, 1, 2]
    first, second, third = (allocator.take(2) for _ in range(3))
    assert (first, second, third) == ([0, 1], [2, 3], [4, 5])
    allocator.give_back([0, 1])
    assert allocator.take(1, is_highest=True) == [7]
    assert allocator.take(4) is None
    assert allocator.num_free == 3, "a refusal changes nothing"
    allocator.give_back([3])
    assert allocator.take(3) == [0, 1, 3], "no gap is wide enough"
    allocator.give_back([3, 4])
    assert allocator.take(2) == [3, 4]


def test_a_table_knows_its_slots_and_gives_them_back_once() -> None:
    allocator = PageAllocator(num_pages=5, page_size=2)
    pages = allocator.take(5)
    assert pages == [0, 1, 2, 3, 4]
    whole, torn = PageTable(allocator, [1, 2, 3]), PageTable(allocator, [0, 4])
    assert (whole.first_slot, whole.num_slots, whole.is_contiguous) == (2, 6, True)
    assert not torn.is_contiguous
    assert torn.slots(torch.device("cpu")).tolist() == [0, 1, 8, 9]
    for table in (whole, torn, whole):
        table.release()
    assert allocator.num_free == 5
    assert allocator.take(5) == pages
