"""Chunks of vLLM to the events of one request. Text, stops and counts are ours; no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from vlm_dlm.engine.stop_strings import StopStrings
from vlm_dlm.events import Committed, Finished, Started, Stats
from vlm_dlm.processor.detokenizer import IncrementalDetokenizer
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.vllm.messages import Choice, Chunk
from vlm_dlm.step import ForwardKind, Origin, Token


class VllmAnswer:
    """One answer on its way. Begins when vLLM has taken the request.

    sent_s: when work on it began. eos: ids that end an answer. reason: why it ended, None before.
    """

    def __init__(
        self,
        request: GenerationRequest,
        detokenizer: IncrementalDetokenizer,
        eos: Sequence[int],
        sent_s: float,
    ) -> None:
        self.reason: str | None = None
        self._request = request
        self._detokenizer = detokenizer
        self._stops = StopStrings(request.sampling.stop)
        sampling = request.sampling
        self._ending_ids = sampling.ending_ids(eos)
        self._min_tokens = sampling.min_tokens
        self._sent_s = sent_s
        self._first_s: float | None = None
        self._last_s = sent_s
        self._num_tokens = 0
        self._num_cached: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether a stop string ended it, which vLLM knows nothing of."""
        return self._stops.is_found

    @property
    def _is_early(self) -> bool:
        """The last token is one of those among which no stop string counts."""
        return self._num_tokens <= self._min_tokens

    def started(self) -> Started:
        request, prompt = self._request, self._request.prompt
        return Started(
            request.request_id,
            request.mode,
            len(prompt.token_ids),
            prompt.num_image_tokens,
            self._sent_s,
        )

    def add(self, chunk: Chunk) -> Committed | None:
        """Take in one chunk; what is final by it, if anything. Nothing is after the end."""
        if chunk.num_cached is not None:
            self._num_cached = chunk.num_cached
        if self.reason is not None or not (chunk.choices or chunk.reason):
            return None
        tokens: list[Token] = []
        texts: list[str] = []
        for choice in chunk.choices:
            tokens.append(self._token(choice))
            if choice.token_id in self._ending_ids:  # it is not part of the text
                self.reason = "stop"
                break
            text = self._detokenizer.push([choice.token_id])
            texts.append(self._stops.push(text, is_early=self._is_early))
            if self._stops.is_found:
                self.reason = "stop"
                break
        self.reason = self.reason or chunk.reason
        if not tokens:
            return None
        now = perf_counter()
        self._first_s, self._last_s = self._first_s or now, now
        request_id, text = self._request.request_id, "".join(texts)
        return Committed(request_id, tuple(tokens), text, self._num_tokens, now)

    def finished(self) -> Finished:
        """The last event; `reason` is there."""
        assert self.reason is not None, "the answer has ended"
        text = self._stops.push(self._detokenizer.flush(), is_early=self._is_early)
        text += self._stops.flush()
        reason = "stop" if self._stops.is_found else self.reason
        return Finished(self._request.request_id, reason, text, self._stats(), perf_counter())

    def _token(self, choice: Choice) -> Token:
        index, self._num_tokens = self._num_tokens, self._num_tokens + 1
        num, logprobs = self._request.sampling.num_logprobs, None
        if num is not None and choice.logprobs is not None:
            logprobs = replace(choice.logprobs, top=choice.logprobs.top[:num])
        return Token(
            choice.token_id,
            index,
            index + 1,
            choice.confidence,
            Origin.AR,
            choice.margin,
            logprobs,
        )

    def _stats(self) -> Stats:
        """Seen from here: vLLM does not say how it spends the time before the first token."""
        prompt, num = self._request.prompt, self._num_tokens
        first = self._first_s
        runs = {ForwardKind.AR.value: max(num - 1, 0)}  # the first comes from the prompt's logits
        return Stats(
            num_prompt_tokens=len(prompt.token_ids),
            num_image_tokens=prompt.num_image_tokens,
            num_tokens=num,
            num_forwards=num,
            num_rows=runs[ForwardKind.AR.value],
            queue_s=0.0,
            vision_s=None,
            prefill_s=None,
            decode_s=0.0 if first is None else self._last_s - first,
            ttft_s=None if first is None else first - self._sent_s,
            acceptance_lengths=None,
            is_prompt_reused=self._num_cached == len(prompt.token_ids),
            forwards_by_kind=runs,
            rows_by_kind=runs,
            num_prefill_forwards=None,
            num_cached=self._num_cached,
        )
