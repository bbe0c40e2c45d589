"""Choices under rules that need the tokens before a place to be there, as a grammar does.

What the model would choose comes first, for all rows at once (`pick_rows`); here the places are
gone through from the left, as far as the choice before them stands, and what a rule refuses is
chosen again among what it allows. So a row costs a rule nothing unless its token is used, and its
whole mask is only worked out where the model's own choice is refused or a token is drawn.

A confidence stays the model's own: the probability that it gave the token, whatever was allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlm_dlm.decoding.filters import Trail
from vlm_dlm.decoding.sampling import Picked, RowSampler, pick_rows

if TYPE_CHECKING:
    from torch import Tensor


def follow(
    rows: Tensor, picked: Picked, sampler: RowSampler, drafts: Sequence[int], before: Trail = ()
) -> Picked:
    """The choices of rows [Q, V] of which the first stands after `before` and each of the others
    after one draft more, as far as they agree with the drafts [Q - 1]; those after are not used by
    anyone."""
    if not sampler.ordered:
        return picked
    walk = _Walk(sampler, before)
    ids, confidences = list(picked.token_ids), list(picked.confidences)
    for place in range(len(ids)):
        if not sampler.is_greedy or not walk.allows(ids[place]):
            ids[place] = walk.pick(rows[place], sampler)
            confidences[place] = _own_confidence(rows[place], ids[place])
        if place == len(drafts) or ids[place] != drafts[place]:
            break
        walk.push([ids[place]])
    return replace(picked, token_ids=ids, confidences=confidences)


def mended(rows: Tensor, ids: Sequence[int], sampler: RowSampler, before: Trail = ()) -> list[int]:
    """Drafts [Q] that may follow one another after `before`: where a rule refuses one, the
    likeliest that it allows is taken. rows: [Q, V], each predicts its own draft."""
    if not sampler.ordered:
        return list(ids)
    walk, drafts, greedy = _Walk(sampler, before), list(ids), sampler.greedy()
    for place in range(len(drafts)):
        if not walk.allows(drafts[place]):
            drafts[place] = walk.pick(rows[place], greedy)
        walk.push([drafts[place]])
    return drafts


def run(
    rows: Tensor,
    picked: Picked,
    sampler: RowSampler,
    known: Trail,
    ending_ids: frozenset[int],
    *,
    limit: float,
    most: int,
) -> Picked:
    """Fill open places of a block (None in `known`) from the left up to its end: the first, and as
    long as what is allowed there gives the choice at least `limit`, at most so many. `places` of
    what is returned are these.

    rows: [Q, V], each predicts its own place.
    """
    walk, places = _Walk(sampler), list[int]()
    ids, confidences = list(picked.token_ids), list(picked.confidences)
    for place, token in enumerate(known):
        if token is None:
            share = confidences[place]
            if not sampler.is_greedy or share < limit or not walk.allows(ids[place]):
                ids[place], share = walk.pick_with_share(rows[place], sampler)
                confidences[place] = _own_confidence(rows[place], ids[place])
            if places and (share < limit or len(places) >= most):
                break
            places.append(place)
            token = ids[place]
        walk.push([token])
        if token in ending_ids:
            break
    return replace(picked, token_ids=ids, confidences=confidences, places=places)


class _Walk:
    """The rules of one answer along tokens that are tried out; they themselves stay. Those that go
    in any order are asked as well: here it is known what stands before a place."""

    def __init__(self, sampler: RowSampler, before: Trail = ()) -> None:
        self._rules = [rule.fork() for rule in sampler.ordered]
        self._others = [rule.fork() for rule in sampler.filters]
        self._trail: list[int | None] = []
        self.push(before)

    def push(self, tokens: Trail) -> None:
        self._trail += tokens
        for rule in (*self._rules, *self._others):
            rule.push(tokens)

    def allows(self, token_id: int) -> bool:
        return all(rule.allows(token_id) for rule in (*self._rules, *self._others))

    def pick(self, row: Tensor, sampler: RowSampler) -> int:
        """A token among those that the rules allow here. row: [V], as the model gave it."""
        held = self._held(row)
        if sampler.is_greedy and not sampler.filters:  # most of them, without the work of a draw
            for token_id in sampler.banned_ids:
                held[token_id] = float("-inf")
            return int(held.argmax())
        return self._drawn(held, sampler)[0]

    def pick_with_share(self, row: Tensor, sampler: RowSampler) -> tuple[int, float]:
        """The same, with its probability among them without temperature."""
        return self._drawn(self._held(row), sampler)

    def _held(self, row: Tensor) -> Tensor:
        """A copy of the row, without what is not allowed."""
        row = row.clone()
        for rule in self._rules:
            bias = rule.bias(row.shape[-1], row.device)
            if bias is not None:
                row += bias
        return row

    def _drawn(self, held: Tensor, sampler: RowSampler) -> tuple[int, float]:
        choice = pick_rows([held[None]], [sampler.unordered()], [[self._trail]])[0]
        return choice.token_ids[0], choice.confidences[0]


def _own_confidence(row: Tensor, token_id: int) -> float:
    return row.float().softmax(dim=-1)[token_id].item()
