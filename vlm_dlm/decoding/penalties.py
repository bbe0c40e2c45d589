"""What a request may favour, forbid or penalise: rules that add to the logits of a place, or change
them, by the tokens before it.

Sources: logit_bias, presence_penalty and frequency_penalty as in OpenAI's API, of the answer's own
tokens; repetition_penalty as in Keskar et al. 2019 and transformers, of prompt and answer;
bad_words as in transformers and vLLM. Where several are set, biases come first, then repetition,
frequency and presence, as in vLLM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from vlm_dlm.decoding.filters import RowFilter, Trail
from vlm_dlm.request import SamplingParams

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Not -inf: where nothing else may come, as under a grammar, it comes all the same.
FORBIDDEN = -1e9


class Favoured(RowFilter):
    """Tokens whose logits are raised or lowered, always by the same."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._key = tuple(sorted(bias.items()))
        self._biases: dict[tuple[int, torch.device], Tensor] = {}

    def bias(self, size: int, device: torch.device) -> Tensor | None:
        import torch

        key = size, device
        if key not in self._biases:
            found = torch.zeros(size)
            for token_id, value in self._key:
                if token_id < size:
                    found[token_id] = value
            self._biases[key] = found.to(device)
        return self._biases[key]

    def bias_key(self) -> Hashable | None:
        return self._key

    def push(self, tokens: Trail) -> None:
        pass

    def rollback(self, num: int) -> None:
        pass

    def fork(self) -> RowFilter:
        return self

    def allows(self, token_id: int) -> bool:
        return True


class Counted(RowFilter):
    """Penalties by how often a token has come: `repetition` divides a positive logit and multiplies
    another, also of tokens in the prompt; then `frequency` is taken from those in the answer each
    time, and `presence` once."""

    reads_logits: ClassVar[bool] = True

    def __init__(
        self,
        presence: float,
        frequency: float,
        repetition: float,
        prompt: frozenset[int] = frozenset(),
        before: Sequence[int | None] = (),
    ) -> None:
        self._presence = presence
        self._frequency = frequency
        self._repetition = repetition
        self._prompt = prompt
        self._tokens = list(before)
        self._counts = Counter(token for token in before if token is not None)

    def bias(self, size: int, device: torch.device) -> Tensor | None:
        return None

    def change(self, row: Tensor) -> None:
        import torch

        counts, penalty = self._counts, self._repetition
        if penalty != 1.0:
            seen = list(self._prompt.union(counts))
            index = torch.tensor(seen, device=row.device, dtype=torch.long)
            values = row[index]
            row[index] = torch.where(values > 0, values / penalty, values * penalty)
        if counts and (self._presence or self._frequency):
            index = torch.tensor(list(counts), device=row.device)
            nums = torch.tensor(list(counts.values()), device=row.device, dtype=row.dtype)
            row[index] -= self._presence + self._frequency * nums

    def push(self, tokens: Trail) -> None:
        self._tokens += tokens
        self._counts.update(token for token in tokens if token is not None)

    def rollback(self, num: int) -> None:
        if num:
            gone = self._tokens[-num:]
            del self._tokens[-num:]
            self._counts.subtract(token for token in gone if token is not None)
            self._counts += Counter()  # without those that are not there any more

    def fork(self) -> RowFilter:
        return Counted(
            self._presence, self._frequency, self._repetition, self._prompt, self._tokens
        )

    def allows(self, token_id: int) -> bool:
        return True


class BadWords(RowFilter):
    """Sequences of tokens that do not come: the last of one is forbidden after all others of it."""

    def __init__(self, words: Sequence[tuple[int, ...]], before: Trail = ()) -> None:
        self._words = words
        self._longest = max(map(len, words))
        self._tokens = list(before)

    def bias(self, size: int, device: torch.device) -> Tensor | None:
        import torch

        forbidden = [token_id for token_id in self._forbidden() if token_id < size]
        if not forbidden:
            return None
        bias = torch.zeros(size)
        bias[forbidden] = FORBIDDEN
        return bias.to(device)

    def bias_key(self) -> Hashable | None:
        return self._forbidden()

    def push(self, tokens: Trail) -> None:
        self._tokens += tokens

    def rollback(self, num: int) -> None:
        del self._tokens[len(self._tokens) - num :]

    def fork(self) -> RowFilter:
        return BadWords(self._words, self._tokens)

    def allows(self, token_id: int) -> bool:
        return not any(word[-1] == token_id and self._ends_here(word) for word in self._words)

    def _forbidden(self) -> tuple[int, ...]:
        return tuple(word[-1] for word in self._words if self._ends_here(word))

    def _ends_here(self, word: tuple[int, ...]) -> bool:
        return len(word) == 1 or tuple(self._tokens[1 - len(word) :]) == word[:-1]


def penalties_of(sampling: SamplingParams, prompt: Iterable[int]) -> list[RowFilter]:
    """The rules that a request asks for. prompt: its tokens."""
    rules: list[RowFilter] = []
    presence, frequency = sampling.presence_penalty, sampling.frequency_penalty
    repetition = sampling.repetition_penalty
    if presence or frequency or repetition != 1.0:
        seen = frozenset(prompt) if repetition != 1.0 else frozenset[int]()
        rules.append(Counted(presence, frequency, repetition, seen))
    if sampling.logit_bias:
        rules.append(Favoured(dict(sampling.logit_bias)))
    if sampling.bad_words:
        rules.append(BadWords(sampling.bad_words))
    return rules
