"""What may come next in an answer, as far as a rule and not the model decides it.

A filter stands after the tokens that were written and says what is added to the logits of the next
one. A row of a forward may stand further on, after drafts or places not filled yet: a fork of the
filter is led there and back (`walk`), so that every mode asks in the same way, whatever the rule.
Verifying rows stand after exactly what `ar` would have written, so lossless modes stay lossless.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from vlm_dlm.request import DecodingIds, SamplingParams

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Tokens between what was written and the one that a row chooses; None for a place not filled yet.
Trail = Sequence[int | None]


class RowFilter(ABC):
    """A rule for one answer, after the tokens it was told of.

    follows_text: what it says depends on what came before.
    is_ordered: it says nothing of a place before all places in front of it are filled, so they are
        filled from the left (`in_order.py`).
    reads_logits: it changes them (`change`) after all biases instead of having one.
    banned_ids: never chosen, whatever came before.
    """

    follows_text: ClassVar[bool] = True
    is_ordered: ClassVar[bool] = False
    reads_logits: ClassVar[bool] = False
    banned_ids: tuple[int, ...] = ()

    @abstractmethod
    def bias(self, size: int, device: torch.device) -> Tensor | None:
        """What is added to the logits [size] of the next token, -inf where it must not be chosen,
        but not everywhere; None for nothing. After a place that is not filled: what holds with
        any token there."""

    def change(self, row: Tensor) -> None:
        """Change the logits [V] of the next token in place, if it `reads_logits`."""
        raise NotImplementedError

    def bias_key(self) -> Hashable | None:
        """Equal where `bias` would be: such rows are treated together. None: with no other row."""
        return None

    @abstractmethod
    def push(self, tokens: Trail) -> None:
        """Go on after these, also where one was not allowed: what is said there is not used."""

    @abstractmethod
    def rollback(self, num: int) -> None:
        """Go back by so many of the tokens pushed last."""

    @abstractmethod
    def fork(self) -> RowFilter:
        """Another one at the same place, which moves alone."""

    def allows(self, token_id: int) -> bool:
        """Whether this token may come next."""
        import torch

        bias = self.bias(token_id + 1, torch.device("cpu"))
        return bias is None or bias[token_id].item() > float("-inf")


@dataclass(frozen=True, slots=True)
class Banned(RowFilter):
    """Tokens that never come."""

    follows_text: ClassVar[bool] = False
    banned_ids: tuple[int, ...]

    def bias(self, size: int, device: torch.device) -> Tensor | None:
        return _without(self.banned_ids, size, device)

    def bias_key(self) -> Hashable | None:
        return self.banned_ids

    def push(self, tokens: Trail) -> None:
        pass

    def rollback(self, num: int) -> None:
        pass

    def fork(self) -> RowFilter:
        return self


@dataclass(slots=True)
class Delayed(RowFilter):
    """Tokens that do not come before the answer has `min_tokens`."""

    ids: tuple[int, ...]
    min_tokens: int
    num_tokens: int = 0
    _biases: dict[tuple[int, torch.device], Tensor] = field(
        default_factory=dict["tuple[int, torch.device]", "Tensor"]
    )

    def bias(self, size: int, device: torch.device) -> Tensor | None:
        if self.num_tokens >= self.min_tokens:
            return None
        key = size, device
        if key not in self._biases:
            self._biases[key] = _without(self.ids, size, device)
        return self._biases[key]

    def bias_key(self) -> Hashable | None:
        return self.ids

    def push(self, tokens: Trail) -> None:
        self.num_tokens += len(tokens)

    def rollback(self, num: int) -> None:
        self.num_tokens -= num

    def allows(self, token_id: int) -> bool:
        return self.num_tokens >= self.min_tokens or token_id not in self.ids

    def fork(self) -> RowFilter:
        return Delayed(self.ids, self.min_tokens, self.num_tokens, self._biases)


def filters_of(
    sampling: SamplingParams, ids: DecodingIds, *, with_mask: bool = False
) -> list[RowFilter]:
    """The rules of one answer. with_mask: the mask may be chosen like any other token."""
    filters: list[RowFilter] = [] if with_mask else [Banned((ids.mask,))]
    delayed = sampling.delayed_ids(ids.eos)
    if delayed:
        filters.append(Delayed(tuple(sorted(delayed)), sampling.min_tokens))
    return filters


def ban(rows: Tensor, sizes: Sequence[int], banned: Sequence[Sequence[int]]) -> None:
    """Take what each request never chooses out of its rows of [N, V], in place: at once where all
    agree."""
    if all(token_ids == banned[0] for token_ids in banned):
        spans = [(rows, banned[0])]
    else:
        ends = list(accumulate(sizes))
        parts = [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        spans = list(zip(parts, banned, strict=True))
    for span, token_ids in spans:
        for token_id in token_ids:
            span.select(-1, token_id).fill_(float("-inf"))


def add_biases(
    rows: Tensor,
    sizes: Sequence[int],
    filters: Sequence[Sequence[RowFilter]],
    trails: Sequence[Iterable[Trail]] | None,
) -> None:
    """Add what the filters of each request say about its rows of [N, V], in place. trails: as in
    `pick_rows`."""
    import torch

    found: dict[Hashable, tuple[Tensor, list[int]]] = {}
    changing: list[tuple[RowFilter, range, list[Trail]]] = []
    start = 0
    for i, (size, rules) in enumerate(zip(sizes, filters, strict=True)):
        own: list[Trail] = [()] * size
        if trails is not None and rules:
            own = list(trails[i])
        span = range(start, start + size)
        for number, rule in enumerate(rules):
            if rule.reads_logits:
                changing.append((rule, span, own))
                continue
            for row, place in zip(span, walk(rule, own), strict=True):
                bias = place.bias(rows.shape[-1], rows.device)
                if bias is not None:
                    kind = place.bias_key()
                    key = (i, number, row) if kind is None else (type(rule), kind)
                    found.setdefault(key, (bias, []))[1].append(row)
        start += size
    for bias, members in found.values():
        index = torch.tensor(members, device=rows.device)
        rows[index] += bias.to(rows.dtype)
    for rule, span, own in changing:
        for row, place in zip(span, walk(rule, own), strict=True):
            place.change(rows[row])


def walk(rule: RowFilter, trails: Iterable[Trail]) -> Iterator[RowFilter]:
    """A fork of the rule at the end of each trail, until the next; itself stays where it is."""
    cursor, before = rule.fork(), ()
    for trail in trails:
        num_shared = 0
        while num_shared < min(len(before), len(trail)) and before[num_shared] == trail[num_shared]:
            num_shared += 1
        cursor.rollback(len(before) - num_shared)
        cursor.push(trail[num_shared:])
        before = trail
        yield cursor


def refused_places(filters: Iterable[RowFilter], tokens: Trail, forced: int | None) -> list[int]:
    """Which of these tokens, in a row after what was written, may not stand where they do if their
    places were free again. forced: a place that no rule is asked about."""
    places: list[int] = []
    for rule in filters:
        cursor = rule.fork()
        for place, token in enumerate(tokens):
            known = None if place in places else token
            if known is not None and place != forced and not cursor.allows(known):
                places.append(place)
                known = None
            cursor.push([known])
    return places


def _without(ids: Iterable[int], size: int, device: torch.device) -> Tensor:
    import torch

    bias = torch.zeros(size)
    bias[[token_id for token_id in ids if token_id < size]] = float("-inf")
    return bias.to(device)
