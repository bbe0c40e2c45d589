"""Rows of many requests in one forward: who is attended together, and that it changes no logits."""

from __future__ import annotations

import pytest
import torch

from tests.integration.engine.harness import IMAGE, MASK, prompt_of, tiny_model
from vlm_dlm.decoding.quadratic_speculation import Branches, branch_offsets
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.packing import grouped
from vlm_dlm.engine.pages import PageAllocator, PageTable
from vlm_dlm.engine.rows import PackedRows
from vlm_dlm.engine.torch_runner import TorchRunner
from vlm_dlm.step import StepPlan, Visibility

CPU = torch.device("cpu")
CAUSAL, FULL = Visibility.CAUSAL, Visibility.FULL


def packed(
    allocator: PageAllocator, cache_len: int, plan: StepPlan, is_torn: bool = False
) -> PackedRows:
    """A request with `cache_len` cached tokens, on pages in a row or not."""
    num_pages = allocator.pages_for(cache_len + len(plan.token_ids))
    pages = allocator.take(2 * num_pages if is_torn else num_pages)
    assert pages is not None
    table = PageTable(allocator, pages[:: 2 if is_torn else 1])
    return PackedRows(plan, cache_len, table, len(plan.token_ids))


def one_row(cache_len: int) -> PackedRows:
    return packed(PageAllocator(512, 8), cache_len, StepPlan([1]))


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([5], [[0]]),
        ([20, 30, 25], [[0, 2, 1]]),
        ([10, 2000, 12, 11, 1990], [[0, 3, 2], [4, 1]]),
        ([100, 700, 1400], [[0], [1], [2]]),
    ],
)
def test_requests_of_very_different_length_are_kept_apart(
    lengths: list[int], groups: list[list[int]]
) -> None:
    assert grouped([one_row(length) for length in lengths], CPU) == groups
    on_gpu = grouped([one_row(length) for length in lengths], torch.device("cuda"))
    assert len(on_gpu) == 1, "there the number of calls counts more"


def test_groups_share_rows_and_visibility() -> None:
    """Equal patterns share one, though each request made its own."""
    allocator = PageAllocator(64, 8)
    plans = [
        StepPlan([1]),
        StepPlan([1, 2]),
        StepPlan([1, 2], FULL),
        StepPlan([1]),
        StepPlan([1, 2, 3, 4], Branches(2, 1)),
        StepPlan([1, 2, 3, 4], Branches(1, 3)),
        StepPlan([1, 2, 3, 4], Branches(2, 1)),
    ]
    batch = [packed(allocator, 5, plan) for plan in plans]
    assert grouped(batch, CPU) == [[0, 3], [1], [2], [4, 6], [5]]


def mixture(allocator: PageAllocator) -> list[PackedRows]:
    branches = StepPlan([3, 4, *[MASK] * 6], Branches(2, 3), list(branch_offsets(2, 3)))
    plans: list[tuple[int, StepPlan]] = [
        *((cached, StepPlan([cached % 7])) for cached in (3, 170, 9, 12, 200, 4, 30, 8, 5, 20)),
        *((cached, StepPlan([5, MASK, MASK], FULL)) for cached in (0, 40, 41)),
        *((cached, StepPlan([5, 6, 7], CAUSAL)) for cached in (17, 0, 90)),
        *((cached, branches) for cached in (6, 33)),
        (0, StepPlan(list(prompt_of(30)))),
        (60, StepPlan(list(prompt_of(21)))),
    ]
    return [
        packed(allocator, cached, plan, is_torn=i % 3 == 0)
        for i, (cached, plan) in enumerate(plans)
    ]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_batch_gives_every_request_the_logits_it_gets_alone(is_reversed: bool) -> None:
    model, allocator = tiny_model(), PageAllocator(512, 4)
    runner = TorchRunner(model, IMAGE, EngineConfig(max_cache_tokens=2048))
    cache = runner.cache
    cache.data.copy_(torch.randn(cache.data.shape, generator=torch.Generator().manual_seed(0)))
    batch = mixture(allocator)
    before = cache.data.clone()
    used = {slot for rows in batch for slot in rows.table.slots(CPU)[: rows.length].tolist()}
    cache.data[:, :, [slot for slot in range(2048) if slot not in used]] = float("nan")
    batch = batch[::-1] if is_reversed else batch
    together = runner.run(batch)
    written = cache.data.nan_to_num()
    for rows, logits in zip(batch, together, strict=True):
        torch.testing.assert_close(logits, runner.run([rows])[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cache.data.nan_to_num(), written, rtol=1e-4, atol=1e-4)
    assert not torch.equal(written, before.nan_to_num())
