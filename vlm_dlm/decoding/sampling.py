"""Pure functions that turn logits into tokens, and the per-request source of randomness.

All rows of all requests of a mode are drawn in one go: one set of tensor operations and one copy to
the host, however many requests there are. Randomness comes from a generator of the request's own,
one uniform number per row, so that the same seed gives the same answer in any batch.

torch is imported where it is used, so that the modes and the limits of their options are known
without it: the command line refuses bad input before that slow import.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vlm_dlm.decoding.filters import RowFilter, Trail, add_biases, ban, refused_places
from vlm_dlm.decoding.scores import Scores, scores_of
from vlm_dlm.request import SamplingParams
from vlm_dlm.step import Logprobs

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RowSampler:
    """What one request draws from: its filters, and its random generator.

    banned_ids: what the filters never allow. filters: those that follow the text in any order.
    ordered: those that follow it from the left.
    """

    __slots__ = (
        "_generator",
        "banned_ids",
        "filters",
        "min_p",
        "num_logprobs",
        "ordered",
        "seed",
        "temperature",
        "top_k",
        "top_p",
    )

    def __init__(self, sampling: SamplingParams, filters: Iterable[RowFilter] = ()) -> None:
        self.temperature = sampling.temperature
        self.top_p = sampling.top_p
        self.top_k = sampling.top_k
        self.min_p = sampling.min_p
        self.num_logprobs = sampling.num_logprobs
        rules = list(filters)
        self.banned_ids = sorted({token_id for rule in rules for token_id in rule.banned_ids})
        self.filters = [rule for rule in rules if rule.follows_text and not rule.is_ordered]
        self.ordered = [rule for rule in rules if rule.is_ordered]
        self.seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        self._generator: torch.Generator | None = None

    def greedy(self) -> RowSampler:
        """One that takes the likeliest token, by the same filters."""
        twin = copy(self)
        twin.temperature, twin.num_logprobs = 0.0, None
        return twin

    def unordered(self) -> RowSampler:
        """One that draws the next of the same numbers, without the filters from the left."""
        twin = self.silent()
        twin.ordered = []
        return twin

    def silent(self) -> RowSampler:
        """One that draws the next of the same numbers, and tells no log-probabilities."""
        self._random()
        twin = copy(self)
        twin.num_logprobs = None
        return twin

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0

    def note(self, token_ids: Sequence[int]) -> None:
        """These were written."""
        for rule in (*self.filters, *self.ordered):
            rule.push(token_ids)

    def refused(self, tokens: Trail, forced: int | None) -> list[int]:
        """Which of these, after what was written, the filters have free again."""
        return refused_places(self.filters, tokens, forced)

    def uniforms(self, num: int) -> Tensor:
        """The request's next `num` random numbers in [0, 1), float64 [num], on the CPU."""
        import torch

        return torch.rand(num, generator=self._random(), dtype=torch.float64)

    def _random(self) -> torch.Generator:
        import torch

        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self.seed)
        return self._generator


GREEDY = RowSampler(SamplingParams(seed=0))


@dataclass(frozen=True, slots=True)
class Picked:
    """The choice for every row of one request.

    token_ids: [Q].
    confidences: [Q], probability of the token without temperature.
    drawn_confidences: [Q], its probability under the distribution it was drawn from (the same where
        the choice was greedy).
    dtype: what the confidences were computed in.
    margins: [Q], best logit less second best; None unless asked for.
    places: rows whose choice counts, where filters from the left have said so; None for all.
    scores: what the model gave all tokens; None unless asked for.
    """

    token_ids: list[int]
    confidences: list[float]
    drawn_confidences: list[float]
    dtype: torch.dtype
    margins: list[float] | None = None
    places: list[int] | None = None
    scores: Scores | None = None

    def logprobs(self, row: int, token_id: int) -> Logprobs | None:
        """Of a token that was taken for this row."""
        return None if self.scores is None else self.scores.of(row, token_id)


def pick_rows(
    logits: Sequence[Tensor],
    samplers: Sequence[RowSampler],
    trails: Sequence[Iterable[Trail]] | None = None,
    *,
    is_native_dtype: bool = False,
    with_margins: bool = False,
) -> list[Picked]:
    """Choose one token per row for several requests at once.

    logits[i]: [Q_i, V], drawn with samplers[i]. trails[i]: [Q_i], what comes between the tokens
    that were written and the one that each row chooses, worked out only where there are filters;
    None for nothing. is_native_dtype: confidence in the logits' own dtype, as the reference has it,
    instead of float32. The logits may be
    overwritten, but not those of a sampler with ordered filters.
    """
    import torch

    sizes = [rows.shape[0] for rows in logits]
    scores = [scores_of(x, s.num_logprobs) for x, s in zip(logits, samplers, strict=True)]
    rows = logits[0] if len(logits) == 1 else torch.cat(list(logits))  # [N, V]
    if len(logits) == 1 and samplers[0].ordered:
        rows = rows.clone()  # `in_order.py` reads them again
    ban(rows, sizes, [sampler.banned_ids for sampler in samplers])
    if any(sampler.filters for sampler in samplers):
        add_biases(rows, sizes, [sampler.filters for sampler in samplers], trails)
    if not is_native_dtype:
        rows = rows.float()
    token_ids = rows.argmax(dim=-1)  # [N]
    drawn = None
    if not all(sampler.is_greedy for sampler in samplers):
        token_ids, drawn = _draw(rows, token_ids, sizes, samplers)
    probs = rows.softmax(dim=-1)
    if drawn is None:
        confidences = probs.amax(dim=-1)  # [N], of the peak
    else:
        confidences = probs.gather(-1, token_ids[:, None]).squeeze(-1)  # [N]
    columns = [token_ids, confidences]
    if drawn is not None:
        columns.append(torch.where(drawn < 0, confidences.float(), drawn))
    if with_margins:
        best = rows.topk(2, dim=-1).values  # [N, 2]
        columns.append(best[:, 0] - best[:, 1])
    picked = _split(columns, sizes, has_margins=with_margins)
    if any(scores):
        picked = [replace(p, scores=own) for p, own in zip(picked, scores, strict=True)]
    return picked


def tempered_distribution(
    rows: Tensor,
    temperature: Tensor,
    top_p: Tensor,
    top_k: Tensor | None = None,
    min_p: Tensor | None = None,
) -> Tensor:
    """Probabilities [N, V] in float32 after temperature [N, 1] and the filters, [N, 1] each.

    min_p: those below that share of the best one's go. top_k: those below the k-th best go, and
    ties stay; V or more keeps all. top_p: of what is left, the smallest set of best tokens whose
    mass reaches it stays (Holtzman et al. 2020). The best token always stays.
    """
    import torch

    rows = rows.float()
    rows = rows - rows.amax(dim=-1, keepdim=True)  # a tiny temperature must not overflow
    probs = (rows / temperature.clamp_min(1e-30)).softmax(dim=-1)
    is_filtered = top_p < 1.0  # [N, 1]
    if top_k is not None:
        is_filtered = is_filtered | (top_k < probs.shape[-1])
    if min_p is not None:
        is_filtered = is_filtered | (min_p > 0.0)
    if not bool(is_filtered.any()):
        return probs
    ordered, order = probs.sort(dim=-1, descending=True)
    if min_p is not None:
        ordered = ordered.masked_fill(ordered < min_p * ordered[:, :1], 0.0)
    if top_k is not None:
        kth = ordered.gather(-1, top_k.clamp(1, probs.shape[-1]) - 1)  # [N, 1]
        ordered = ordered.masked_fill(ordered < kth, 0.0)
    mass = ordered.cumsum(dim=-1)
    is_cut = (top_p < 1.0) & (mass - ordered >= top_p * mass[:, -1:])
    is_cut[:, 0] = False  # also where top_p is so small that it is nothing in float32
    ordered = ordered.masked_fill(is_cut, 0.0)
    kept = torch.zeros_like(probs).scatter_(-1, order, ordered)
    kept = kept / kept.sum(dim=-1, keepdim=True)
    # Rows without a filter stay bit for bit what they are in a batch without any.
    return torch.where(is_filtered, kept, probs)


def accept_prefix(drafts: Sequence[int], verified: Sequence[int]) -> int:
    """Number of leading drafts that the verifier chose as well.

    drafts[i] stands after i accepted drafts; verified[i] is the verifier's choice for that place.
    """
    num = 0
    while num < len(drafts) and drafts[num] == verified[num]:
        num += 1
    return num


def round_to(value: float, dtype: torch.dtype) -> float:
    """`value` as torch sees it when it compares a tensor of `dtype` with a Python number."""
    import torch

    return torch.tensor(value, dtype=dtype).item()


def _draw(
    rows: Tensor, greedy: Tensor, sizes: Sequence[int], samplers: Sequence[RowSampler]
) -> tuple[Tensor, Tensor]:
    """Inverse-CDF draws for the rows with a temperature, the greedy choice for the others.

    Returns ids [N] and the probabilities [N] they were drawn with, -1 where the choice was greedy.
    """
    import torch

    device = rows.device
    drawn = [not s.is_greedy for s, size in zip(samplers, sizes, strict=True) for _ in range(size)]
    index = torch.tensor([i for i, is_drawn in enumerate(drawn) if is_drawn], device=device)
    hot = [(s, size) for s, size in zip(samplers, sizes, strict=True) if not s.is_greedy]

    def column(values: Iterable[float]) -> Tensor:
        repeated = [v for v, (_, size) in zip(values, hot, strict=True) for _ in range(size)]
        return torch.tensor(repeated)[:, None].to(device)  # [M, 1]

    vocab_size, top_k, min_p = rows.shape[-1], None, None
    if any(s.top_k for s, _ in hot):
        top_k = column(min(s.top_k or vocab_size, vocab_size) for s, _ in hot)
    if any(s.min_p for s, _ in hot):
        min_p = column(s.min_p for s, _ in hot)
    uniforms = torch.cat([s.uniforms(size) for s, size in hot]).to(device)  # [M]
    probs = tempered_distribution(
        rows[index],
        column(s.temperature for s, _ in hot),
        column(s.top_p for s, _ in hot),
        top_k,
        min_p,
    )
    cdf = probs.double().cumsum(dim=-1)  # [M, V]
    target = uniforms[:, None] * cdf[:, -1:]  # [M, 1]
    chosen = torch.searchsorted(cdf, target, right=True).squeeze(-1)
    last = (probs > 0).long().cumsum(dim=-1).argmax(dim=-1)  # last id with any mass
    chosen = torch.minimum(chosen, last)  # [M]
    drawn_with = probs.gather(-1, chosen[:, None]).squeeze(-1)  # [M]
    confidences = torch.full(greedy.shape, -1.0, device=device).index_copy(0, index, drawn_with)
    return greedy.index_copy(0, index, chosen), confidences


def _split(columns: list[Tensor], sizes: Sequence[int], *, has_margins: bool) -> list[Picked]:
    """One copy to the host for all, then one slice per request. columns: ids, confidences, perhaps
    confidences of what was drawn, perhaps margins, each [N]."""
    values, dtype = _to_host(columns), columns[1].dtype
    margins = values.pop() if has_margins else None
    ids, confs, drawn_confs = values[0], values[1], values[-1]
    picked: list[Picked] = []
    start = 0
    for size in sizes:
        span = slice(start, start + size)
        chosen = [int(token) for token in ids[span]]
        own = None if margins is None else margins[span]
        picked.append(Picked(chosen, confs[span], drawn_confs[span], dtype, own))
        start += size
    return picked


def _to_host(columns: list[Tensor]) -> list[list[float]]:
    """Values of columns [N] each, in one transfer. float64 holds every id exactly."""
    import torch

    if columns[0].device.type == "cpu":
        plain: list[Any] = list(columns)
        return [column.tolist() for column in plain]
    stacked: Any = torch.stack([column.double() for column in columns])  # [2 to 4, N]
    return stacked.tolist()
