"""Events of the engine to an answer, and the figures that every reply carries."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from vlm_dlm.errors import BY_CODE, EngineError, UnavailableError, VlmDlmError
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent, Started, Stats
from vlm_dlm.serving.engine_state import ENDING_S
from vlm_dlm.step import ForwardKind, Token
from vlm_dlm_app.http.errors import ApiError, to_api_error
from vlm_dlm_app.schemas.common import (
    Diffusion,
    PromptTokensDetails,
    RequestMetrics,
    SpeculativeDecoding,
    Timings,
    Usage,
)

ABORTED = "the server is shutting down and ended the answer before it was complete"
LOST = "the answer ended before it was complete"
# An end of sentence with a space after it, or at the end of what is there so far; then not after
# a digit, for that may be a number still being written.
_END = re.compile(r"[.!?][\"')\]]*(?=\s)|(?<!\d)[.!?][\"')\]]*$|[。！？]")


class FirstSentence:
    """When an answer had its first whole sentence, which is what a reader waits for.

    end_s: the moment it was whole, on the clock of the moments given; None until then.
    """

    def __init__(self) -> None:
        self.end_s: float | None = None
        self._text = ""

    def add(self, text: str, time_s: float) -> None:
        """More of the answer."""
        if self.end_s is None and text:
            self._text += text
            if _END.search(self._text.rstrip("\n")):
                self.end_s = time_s

    def finish(self, time_s: float) -> None:
        """The answer is over: what it holds counts as a sentence, if it holds words."""
        if self.end_s is None and self._text.strip():
            self.end_s = time_s


class Answer:
    """Gathers the events of one request.

    finish_reason: 'stop', 'length' or 'abort', None until it is there. failed: what the engine
    said if it could not finish. margins: of every token, see `Token`.
    """

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.token_ids: list[int] = []
        self.margins: list[float | None] = []
        self.finish_reason: str | None = None
        self.stats: Stats | None = None
        self.failed: Failed | None = None
        self._texts: list[str] = []
        self._began_s = 0.0
        self._sentence = FirstSentence()

    @property
    def first_sentence_s(self) -> float | None:
        """From the start of work to the end of the first whole sentence."""
        end_s = self._sentence.end_s
        return None if end_s is None else end_s - self._began_s

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)

    def add(self, event: GenerationEvent) -> str:
        """Take in one event; returns the text it brought, '' for none."""
        text = ""
        if isinstance(event, Committed):
            self.tokens += event.tokens
            self.token_ids += [token.id for token in event.tokens]
            self.margins += [token.margin for token in event.tokens]
            text = event.text
        elif isinstance(event, Started):
            self._began_s = event.time_s
        elif isinstance(event, Finished):
            self.finish_reason, self.stats, text = event.reason, event.stats, event.text
        elif isinstance(event, Failed):
            self.failed = event
        if text:
            self._texts.append(text)
            self._sentence.add(text, event.time_s)
        if isinstance(event, Finished):
            self._sentence.finish(event.time_s)
        return text

    @property
    def error(self) -> ApiError | None:
        """Why there is no whole answer: the engine failed or was shut down. None for a good one,
        or one that may still become whole."""
        if self.failed is not None:
            cls, message = BY_CODE.get(self.failed.code, VlmDlmError), self.failed.message
            # what has begun is only ever ended so at the server's own end
            is_ending = cls is UnavailableError
            return to_api_error(UnavailableError(message, ENDING_S) if is_ending else cls(message))
        if self.finish_reason == "abort":
            return to_api_error(UnavailableError(ABORTED, ENDING_S))
        return None

    def finished(self) -> Stats:
        """The figures of a whole answer. Raises `error`; an answer that never ended is one too."""
        error = self.error
        if error is not None:
            raise error
        if self.stats is None:
            raise to_api_error(EngineError(LOST))
        return self.stats


def usage_of(stats: Sequence[Stats]) -> Usage:
    """Of one or more answers to one prompt, which counts once."""
    first = stats[0]
    num_tokens = sum(one.num_tokens for one in stats)
    return Usage(
        prompt_tokens=first.num_prompt_tokens,
        completion_tokens=num_tokens,
        total_tokens=first.num_prompt_tokens + num_tokens,
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=_num_cached(first), image_tokens=first.num_image_tokens
        ),
    )


def timings_of(stats: Stats) -> Timings:
    """Of one answer."""
    num_computed = stats.num_prompt_tokens - _num_cached(stats)
    prompt_s = stats.prompt_s
    return Timings(
        cache_n=_num_cached(stats),
        prompt_n=num_computed,
        prompt_ms=known_ms(prompt_s),
        prompt_per_second=None if prompt_s is None else _per_second(num_computed, prompt_s),
        predicted_n=stats.num_tokens,
        predicted_ms=_ms(stats.decode_s),
        predicted_per_second=round(stats.tokens_per_s, 3),
        draft_n=stats.num_draft_tokens,
        draft_n_accepted=_num_accepted(stats.acceptance_lengths or ()),
    )


def metrics_of(
    stats: Stats, mode: str, device: str, dtype: str, first_sentence_s: float | None = None
) -> RequestMetrics:
    """Of one answer. first_sentence_s: as `Answer` found it."""
    ttft_s, itl_s = stats.ttft_s, _between_tokens_s(stats)
    return RequestMetrics(
        mode=mode,
        time_to_first_token_ms=None if ttft_s is None else _ms(stats.queue_s + ttft_s),
        time_to_first_sentence_ms=(
            None if first_sentence_s is None else _ms(stats.queue_s + first_sentence_s)
        ),
        generation_time_ms=_ms(stats.decode_s),
        queue_time_ms=_ms(stats.queue_s),
        vision_time_ms=known_ms(stats.vision_s),
        prefill_time_ms=known_ms(stats.prefill_s),
        decode_time_ms=_ms(stats.decode_s),
        mean_itl_ms=known_ms(itl_s),
        tokens_per_second=round(stats.tokens_per_s, 3),
        num_forwards=stats.num_forwards,
        tokens_per_forward=round(stats.tokens_per_forward, 3),
        num_positions=stats.num_rows,
        num_wasted_positions=max(stats.num_rows - stats.num_tokens, 0),
        speculative_decoding=_speculation(stats),
        diffusion=_diffusion(stats),
        device=device,
        dtype=dtype,
    )


def known_ms(seconds: float | None) -> float | None:
    """Milliseconds; None for what the engine does not know."""
    return None if seconds is None else _ms(seconds)


def _between_tokens_s(stats: Stats) -> float | None:
    """Mean time between two tokens. Without the prompt's own time, writing began at the first."""
    ttft_s, prompt_s = stats.ttft_s, stats.prompt_s
    if ttft_s is None or stats.num_tokens < 2:
        return None
    writing_s = stats.decode_s if prompt_s is None else prompt_s + stats.decode_s - ttft_s
    return max(writing_s, 0.0) / (stats.num_tokens - 1)


def _per_second(number: int, seconds: float) -> float:
    return round(number / seconds, 3) if seconds > 0 else 0.0


def _speculation(stats: Stats) -> SpeculativeDecoding | None:
    """None in modes that never verify."""
    lengths = stats.acceptance_lengths
    if lengths is None:
        return None
    counts = Counter(length - 1 for length in lengths)
    num_accepted, num_drafts = _num_accepted(lengths), stats.num_draft_tokens
    return SpeculativeDecoding(
        mean_acceptance_length=round(sum(lengths) / max(len(lengths), 1), 3),
        draft_acceptance_rate=round(num_accepted / num_drafts, 4) if num_drafts else None,
        acceptance_histogram=[counts[k] for k in range(max(counts, default=-1) + 1)],
        num_spec_steps=len(lengths),
        num_accepted_draft_tokens=num_accepted,
        num_draft_tokens=num_drafts,
    )


def _diffusion(stats: Stats) -> Diffusion | None:
    """None in modes that never denoise."""
    num_steps = stats.forwards_by_kind.get(ForwardKind.DENOISE, 0)
    num_commits = stats.forwards_by_kind.get(ForwardKind.COMMIT, 0)
    if not num_steps and not num_commits:
        return None
    return Diffusion(
        num_denoising_steps=num_steps,
        num_blocks=num_commits,  # a block is handed out when it is put into the cache, not before
        num_commit_forwards=num_commits,
        mean_steps_per_block=round(num_steps / num_commits, 3) if num_commits else None,
    )


def _num_accepted(lengths: Sequence[int]) -> int:
    """Drafts kept: every verify step gives one token of its own."""
    return sum(lengths) - len(lengths)


def _num_cached(stats: Stats) -> int:
    if stats.num_cached is not None:
        return stats.num_cached
    return stats.num_prompt_tokens if stats.is_prompt_reused else 0


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
