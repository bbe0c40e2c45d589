"""What a caller sees of one request: kinds, order, counts, and the same after a trip as JSON."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.integration.engine.harness import (
    IDS,
    MASK,
    answer_of,
    ask,
    default_options,
    make_core,
    prompt_of,
    spell,
    tiny_model,
)
from tests.invariants import assert_round_trip, assert_stream
from vlm_dlm.decoding import MODES
from vlm_dlm.events import (
    Canvas,
    Committed,
    Failed,
    Finished,
    GenerationEvent,
    Started,
    from_dict,
    to_dict,
)
from vlm_dlm.step import ForwardKind, Origin, Token


def events_for(mode: str, seed: int = 0, **sampling: Any) -> list[GenerationEvent]:
    core = make_core(tiny_model(3))
    return list(core.run([ask("a", mode, prompt_of(6, seed), **sampling)]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_is_well_formed_and_survives_json(mode: str, seed: int) -> None:
    events = events_for(mode, seed)
    assert_stream(events, IDS)
    assert_round_trip(events)
    first = events[0]
    assert isinstance(first, Started)
    assert (first.mode, first.num_prompt_tokens, first.num_image_tokens) == (mode, 6, 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("max_tokens", [1, 2, 5, 9])
def test_an_answer_never_exceeds_max_tokens(mode: str, max_tokens: int) -> None:
    answer = answer_of(events_for(mode, 2, max_tokens=max_tokens))
    whole = answer_of(events_for(mode, 2, max_tokens=40))
    assert answer.tokens == whole.tokens[:max_tokens]
    assert answer.ending == ("length" if len(whole.tokens) > max_tokens else whole.ending)


@pytest.mark.parametrize("mode", MODES)
def test_texts_joined_are_the_answer(mode: str) -> None:
    events = events_for(mode)
    pieces = [event.text for event in events if isinstance(event, Committed)]
    tokens = [token.id for e in events if isinstance(e, Committed) for token in e.tokens]
    last = events[-1]
    assert isinstance(last, Finished)
    assert "".join(pieces) + last.text == spell(tokens)
    assert last.text != "", "this detokenizer holds the last word back"


@pytest.mark.parametrize("mode", ["diffusion", "linear_spec", "quadratic_spec"])
def test_a_canvas_only_ever_gains_tokens(mode: str) -> None:
    """Within a block a filled position stays as it is."""
    events = events_for(mode, 1, max_tokens=24)
    canvases = [event.token_ids for event in events if isinstance(event, Canvas)]
    assert canvases
    if mode != "diffusion":
        # The first place of a draft is the token committed last, which is no longer in the making.
        assert max(map(len, canvases)) == default_options(mode)["block_length"] - 1
    if mode == "diffusion":
        blocks: list[list[tuple[int, ...]]] = [[]]
        for event in events:
            if isinstance(event, Committed):
                blocks.append([])
            elif isinstance(event, Canvas):
                blocks[-1].append(event.token_ids)
        for block in blocks:
            for before, after in pairwise(block):
                kept = zip(before, after, strict=True)
                assert all(old in (MASK, new) for old, new in kept)


@pytest.mark.parametrize("mode", MODES)
def test_tokens_say_where_they_come_from(mode: str) -> None:
    events = events_for(mode, 3, max_tokens=30)
    tokens = [token for e in events if isinstance(e, Committed) for token in e.tokens]
    allowed = {
        "ar": {Origin.AR},
        "diffusion": {Origin.AR, Origin.UNMASKED},
        "linear_spec": {Origin.AR, Origin.DRAFTED, Origin.CORRECTED, Origin.BONUS},
        "quadratic_spec": {Origin.AR, Origin.DRAFTED, Origin.CORRECTED, Origin.BONUS},
    }
    assert {token.origin for token in tokens} <= allowed[mode]
    blocks = [token.block for token in tokens]
    assert blocks == sorted(blocks)
    last = events[-1]
    assert isinstance(last, Finished)
    assert max(token.step for token in tokens) <= last.stats.num_forwards


@pytest.mark.parametrize("mode", MODES)
def test_figures_agree_with_the_events(mode: str) -> None:
    events = events_for(mode, 1, max_tokens=20)
    last = events[-1]
    assert isinstance(last, Finished)
    stats = last.stats
    assert (stats.acceptance_lengths is None) == (not MODES[mode].is_speculative)
    if stats.acceptance_lengths is not None:
        num_given = 1 + UNDRAFTED[mode] + sum(stats.acceptance_lengths)
        assert 0 <= num_given - stats.num_tokens < 4
    if mode == "ar":
        assert stats.num_forwards == stats.num_tokens
        assert stats.num_rows == stats.num_tokens - 1
        assert stats.tokens_per_forward == 1.0
    assert stats.num_rows >= stats.num_forwards - 1
    assert stats.vision_s is not None
    assert stats.prefill_s is not None
    for seconds in (stats.queue_s, stats.vision_s, stats.prefill_s, stats.decode_s):
        assert seconds >= 0.0
    assert stats.ttft_s is not None
    assert 0.0 < stats.ttft_s <= stats.prefill_s + stats.decode_s + 1.0


# Forwards that verify nothing: the first of quadratic speculation has no draft yet.
UNDRAFTED = {"linear_spec": 0, "quadratic_spec": 1}
KINDS = {
    "ar": {ForwardKind.AR},
    "diffusion": {ForwardKind.DENOISE, ForwardKind.COMMIT},
    "linear_spec": {ForwardKind.DRAFT, ForwardKind.VERIFY},
    "quadratic_spec": {ForwardKind.VERIFY},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_forwards_are_counted_by_kind(mode: str, seed: int) -> None:
    events = events_for(mode, seed, max_tokens=20)
    tokens = [token for e in events if isinstance(e, Committed) for token in e.tokens]
    num_drafted = sum(token.origin is Origin.DRAFTED for token in tokens)
    last = events[-1]
    assert isinstance(last, Finished)
    stats = last.stats
    assert set(stats.forwards_by_kind) == set(stats.rows_by_kind) == KINDS[mode]
    assert sum(stats.forwards_by_kind.values()) == stats.num_forwards - (mode == "ar")
    assert sum(stats.rows_by_kind.values()) == stats.num_rows
    assert stats.num_prefill_forwards == 1
    if stats.acceptance_lengths is None:
        assert stats.num_draft_tokens == 0
    else:
        num_verifies = stats.forwards_by_kind[ForwardKind.VERIFY] - UNDRAFTED[mode]
        assert num_verifies == len(stats.acceptance_lengths)
        num_accepted = sum(stats.acceptance_lengths) - num_verifies
        assert num_drafted <= num_accepted <= stats.num_draft_tokens, "the last ones may be cut"


@pytest.mark.parametrize("max_rows", [2, 6])
def test_pieces_of_a_prompt_are_counted(max_rows: int) -> None:
    core = make_core(max_prompt_rows=max_rows)
    last = list(core.run([ask("a", "ar", prompt_of(6))]))[-1]
    assert isinstance(last, Finished)
    assert last.stats.num_prefill_forwards == 6 // max_rows


def test_a_failure_survives_json_too() -> None:
    token = Token(3, 0, 1, 0.5, Origin.BONUS)
    assert_round_trip([Failed("a", "bad_prompt", "why", 1.5), Committed("a", (token,), "x", 1, 2)])
    with pytest.raises(KeyError):
        from_dict({**to_dict(Failed("a", "b", "c", 1.0)), "event": "guess"})
