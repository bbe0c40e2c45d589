"""Asserts that hold for every mode, every request and every engine, whatever else a test checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from vlm_dlm.engine.core import EngineCore
from vlm_dlm.events import (
    Canvas,
    Committed,
    Finished,
    GenerationEvent,
    Started,
    from_dict,
    is_terminal,
    to_dict,
)
from vlm_dlm.request import DecodingIds
from vlm_dlm.step import Pattern, StepPlan


def events_of(events: Iterable[GenerationEvent], request_id: str) -> list[GenerationEvent]:
    return [event for event in events if event.request_id == request_id]


def assert_one_ending(events: Sequence[GenerationEvent]) -> None:
    """Exactly one terminal event per request, and nothing after it."""
    for name in {event.request_id for event in events}:
        own = events_of(events, name)
        endings = [event for event in own if is_terminal(event)]
        assert len(endings) == 1, f"{name} has {len(endings)} terminal events"
        assert own[-1] is endings[0], f"{name} goes on after its terminal event"


def assert_stream(events: Sequence[GenerationEvent], ids: DecodingIds) -> None:
    """One request that was admitted: Started first, ending last, counts and times in order."""
    assert_one_ending(events)
    assert isinstance(events[0], Started)
    assert sum(isinstance(event, Started) for event in events) == 1
    times = [event.time_s for event in events]
    assert times == sorted(times)
    counts = [event.num_forwards for event in events if isinstance(event, Committed | Canvas)]
    assert counts == sorted(counts)
    tokens = [token for e in events if isinstance(e, Committed) for token in e.tokens]
    assert ids.mask not in [token.id for token in tokens]
    assert not any(token.id in ids.eos for token in tokens[:-1]), "text after an end token"
    assert all(0.0 <= token.confidence <= 1.0 + 1e-6 for token in tokens)
    last = events[-1]
    if isinstance(last, Finished):
        assert last.stats.num_tokens == len(tokens)
        assert counts == [] or last.stats.num_forwards >= counts[-1]
        assert last.reason == "abort" or (last.reason == "stop") == (tokens[-1].id in ids.eos)


def assert_round_trip(events: Sequence[GenerationEvent]) -> None:
    """Every event survives JSON."""
    for event in events:
        assert from_dict(json.loads(json.dumps(to_dict(event)))) == event


def assert_no_pages_held(core: EngineCore, *, kept: int = 0) -> None:
    """No request is left and no page is owned, but for `kept` pages of kept prompts."""
    assert not core.has_work
    assert core.allocator.num_free == core.allocator.num_pages - kept


def assert_pages_consistent(core: EngineCore) -> None:
    """Between steps: every request has room for its worst case, and no page two owners."""
    tables = [state.table for state in core.scheduler.running]
    assert all(table is not None for table in tables)
    owned = [page for table in tables if table is not None for page in table.pages]
    assert len(owned) == len(set(owned))
    assert len(owned) <= core.allocator.num_pages - core.allocator.num_free
    for state in core.scheduler.running:
        assert state.table is not None
        assert state.table.num_slots >= state.max_cache_len >= state.cache_len


def assert_plan_is_sound(plan: StepPlan, max_rows: int) -> None:
    """Shapes agree, rows and offsets stay inside what the engine has reserved."""
    size = len(plan.token_ids)
    assert 1 <= size <= max_rows
    assert plan.num_logits is None or 1 <= plan.num_logits <= size
    if plan.offsets is not None:
        assert len(plan.offsets) == size
        assert plan.offsets[0] == 0
        assert min(plan.offsets) >= 0
    if isinstance(plan.visibility, Pattern):
        mask = plan.visibility.mask()
        assert mask.shape == (size, size)
        assert bool(mask.diagonal().all()), "every row sees itself"
