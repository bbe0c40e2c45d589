"""What Prometheus scrapes: vLLM's suffixes under a prefix of our own, in seconds and plain counts.

All figures of an answer come from its Stats, whatever mode wrote it. Figures that are read at the
moment of the scrape are in `live_metrics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from vlm_dlm.events import Stats
from vlm_dlm_app.telemetry.shared_answer import SharedAnswer

PREFIX = "vlm_dlm_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)
_LONG_S = (0.01, 0.05, 0.1, 0.3, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480, 960)
_PER_FORWARD = (0.5, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
_BY_MODE = ("model_name", "mode")

SeriesT = TypeVar("SeriesT", Counter, Gauge, Histogram)


class _Labelled(Generic[SeriesT]):
    """One metric's series by their labels, the model's name first. `labels` of the library costs
    more than the counting, and an answer is counted at some thirty places, so they are kept."""

    def __init__(self, metric: SeriesT, model_name: str) -> None:
        self._metric = metric
        self._model_name = model_name
        self._series: dict[tuple[str, ...], SeriesT] = {}

    def of(self, *labels: str) -> SeriesT:
        """The series with these values. They are names of ours, so that there are few."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._metric.labels(self._model_name, *labels)
        return series


class Metrics:
    """All series, in a registry of their own. Filled by `tracking.py`; routes need nothing here."""

    def __init__(self, model_name: str, modes: Sequence[str] = ()) -> None:
        self.model_name = model_name
        self.text = SharedAnswer(self.render)
        self.own: list[Counter | Gauge | Histogram] = []  # for the docs
        self._registry = CollectorRegistry()
        self._add_times()
        self._add_counts()
        self._running = self._gauge("num_requests_running", "Answers that the engine works on.")
        self._waiting = self._gauge("num_requests_waiting", "Answers that wait for their turn.")
        for mode in modes:  # a rate sees an answer only if there was a zero before it
            for series in self._by_mode():
                series.of(mode)

    def add(self, collector: Collector) -> None:
        """Let a collector of figures read at the moment of the scrape take part."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """The text that /metrics answers."""
        return generate_latest(self._registry)

    def count_refusal(self, reason: str) -> None:
        """A request that got no turn. reason: the error's code."""
        self._refusals.of(reason).inc()

    def count_abort(self, stage: str) -> None:
        """A client left. stage: preparing, waiting, prefill or decode."""
        self._aborts.of(stage).inc()

    def count_failure(self, mode: str, reason: str) -> None:
        """An answer that began and could not be finished. reason: the error's code."""
        self._failures.of(mode, reason).inc()

    def waiting(self, mode: str, change: int) -> None:
        """One answer more (1) or less (-1) waits for its turn."""
        self._waiting.of(mode).inc(change)

    def running(self, mode: str, change: int) -> None:
        """One answer more (1) or less (-1) is worked on."""
        self._running.of(mode).inc(change)

    def count_start(self, mode: str, num_prompt_tokens: int, queue_s: float) -> None:
        """An answer got its turn."""
        self._prompt_tokens.of(mode).inc(num_prompt_tokens)
        self._queue.of(mode).observe(queue_s)

    def count_tokens(self, mode: str, num_tokens: int, first_s: float | None, gap_s: float) -> None:
        """Tokens were handed out. first_s: since the request came, if they are the first; gap_s:
        since those before."""
        self._tokens.of(mode).inc(num_tokens)
        if first_s is None:
            self._gap.of(mode).observe(gap_s)
        else:
            self._ttft.of(mode).observe(first_s)

    def count_answer(self, mode: str, reason: str, stats: Stats, whole_s: float) -> None:
        """An answer is complete. whole_s: since its request came."""
        self._success.of(mode, reason).inc()
        self._whole.of(mode).observe(whole_s)
        if stats.prefill_s is not None:
            self._prefill.of(mode).observe(stats.prefill_s)
        self._decode.of(mode).observe(stats.decode_s)
        if stats.num_tokens > 1:
            self._per_token.of(mode).observe(stats.decode_s / (stats.num_tokens - 1))
        has_images = stats.num_image_tokens and not stats.is_prompt_reused
        if has_images and stats.vision_s is not None:
            self._vision.of(mode).observe(stats.vision_s)
        self._prefix_queries.of(mode).inc(stats.num_prompt_tokens)
        num_hits = stats.num_prompt_tokens * stats.is_prompt_reused
        self._prefix_hits.of(mode).inc(num_hits if stats.num_cached is None else stats.num_cached)
        self._count_forwards(mode, stats)

    def _by_mode(self) -> tuple[_Labelled[Counter] | _Labelled[Gauge] | _Labelled[Histogram], ...]:
        """Those without another label."""
        return (
            *(self._running, self._waiting, self._ttft, self._gap, self._per_token, self._whole),
            *(self._queue, self._prefill, self._decode, self._vision, self._per_forward),
            *(self._prompt_tokens, self._tokens, self._prefix_queries, self._prefix_hits),
            *(self._denoising_steps, self._canvas_positions, self._committed),
            *(self._drafts, self._draft_tokens, self._accepted),
        )

    def _count_forwards(self, mode: str, stats: Stats) -> None:
        for kind, number in stats.forwards_by_kind.items():
            self._forwards.of(mode, kind).inc(number)
        self._forwards.of(mode, "prefill").inc(stats.num_prefill_forwards or 0)
        if stats.num_forwards:
            self._per_forward.of(mode).observe(stats.tokens_per_forward)
        if steps := stats.forwards_by_kind.get("denoise", 0):
            self._denoising_steps.of(mode).inc(steps)
            self._canvas_positions.of(mode).inc(stats.rows_by_kind.get("denoise", 0))
            self._committed.of(mode).inc(stats.num_tokens)
        if lengths := stats.acceptance_lengths:
            self._drafts.of(mode).inc(len(lengths))
            self._draft_tokens.of(mode).inc(stats.num_draft_tokens)
            self._accepted.of(mode).inc(sum(lengths) - len(lengths))

    def _add_times(self) -> None:
        times = self._histogram
        self._ttft = times(
            "time_to_first_token_seconds",
            "From arrival to the first tokens.",
        )
        self._gap = times(
            "inter_token_latency_seconds",
            "Between pieces, each of some tokens.",
        )
        self._per_token = times(
            "request_time_per_output_token_seconds", "Time for writing, per token after the first."
        )
        self._whole = times("e2e_request_latency_seconds", "From arrival to the end.", _LONG_S)
        self._queue = times("request_queue_time_seconds", "From lining up to its turn.")
        self._prefill = times("request_prefill_time_seconds", "The prompt, images not included.")
        self._decode = times("request_decode_time_seconds", "Writing the answer.", _LONG_S)
        self._vision = times(
            "image_encode_time_seconds",
            "Images that no cache had.",
        )
        self._per_forward = times(
            "request_tokens_per_forward",
            "Tokens over forwards while writing, commits and verifies included.",
            _PER_FORWARD,
        )

    def _add_counts(self) -> None:
        count = self._counter
        self._success = count("request_success", "Complete answers.", "finished_reason")
        self._failures = count("request_failures", "Answers that broke off.", "reason")
        self._prompt_tokens = count("prompt_tokens", "Prompt tokens of answers that began.")
        self._tokens = count("generation_tokens", "Tokens handed out.")
        self._prefix_queries = count("prefix_cache_queries", "Prompt tokens of complete answers.")
        self._prefix_hits = count("prefix_cache_hits", "Prompt tokens found in the prompt cache.")
        self._forwards = count(
            "model_forwards",
            "Forwards of complete answers.",
            "kind",
        )
        self._denoising_steps = count("diffusion_num_denoising_steps", "Denoising forwards.")
        self._canvas_positions = count("diffusion_num_canvas_positions", "Rows denoised.")
        self._committed = count("diffusion_num_committed_tokens", "Tokens won by denoising.")
        self._drafts = count("spec_decode_num_drafts", "Verify steps.")
        self._draft_tokens = count("spec_decode_num_draft_tokens", "Tokens put before a verifier.")
        self._accepted = count(
            "spec_decode_num_accepted_tokens",
            "Drafted tokens it accepted.",
        )
        self._refusals = self._counter_by(
            "admission_rejections", "Requests that got no turn, by error code.", "reason"
        )
        self._aborts = self._counter_by(
            "request_aborts",
            "Answers whose client left, by what was being done.",
            "stage",
        )

    def _counter(self, name: str, about: str, *labels: str) -> _Labelled[Counter]:
        return self._counter_by(name, about, "mode", *labels)

    def _counter_by(self, name: str, about: str, *labels: str) -> _Labelled[Counter]:
        names = ("model_name", *labels)
        counter = Counter(PREFIX + name, about, names, registry=self._registry)
        self.own.append(counter)
        return _Labelled(counter, self.model_name)

    def _gauge(self, name: str, about: str) -> _Labelled[Gauge]:
        gauge = Gauge(PREFIX + name, about, _BY_MODE, registry=self._registry)
        self.own.append(gauge)
        return _Labelled(gauge, self.model_name)

    def _histogram(
        self, name: str, about: str, buckets: Sequence[float] = _SHORT_S
    ) -> _Labelled[Histogram]:
        histogram = Histogram(
            PREFIX + name, about, _BY_MODE, registry=self._registry, buckets=buckets
        )
        self.own.append(histogram)
        return _Labelled(histogram, self.model_name)
