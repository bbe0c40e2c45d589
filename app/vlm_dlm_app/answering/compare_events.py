"""What happens in a comparison, as the events of its stream."""

from __future__ import annotations

from vlm_dlm.events import Canvas, Committed, Failed, Finished, Started, is_terminal
from vlm_dlm_app.answering.comparison import Judge, Queued, Step
from vlm_dlm_app.answering.drafts import DraftPace, draft_of, tokens_of
from vlm_dlm_app.answering.modes import model_id
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.streaming import sse
from vlm_dlm_app.state import Services


class CompareEvents:
    """One stream. id: of the comparison. Times are the engine's, from when it began to work on a
    mode."""

    def __init__(self, services: Services, judge: Judge, id: str, drafts: DraftPace) -> None:
        self._services = services
        self._judge = judge
        self._id = id
        self._drafts = drafts
        self._tokenizer = services.checkpoint.processor.tokenizer
        self._began_s: dict[str, float] = {}

    def tell(self, step: Step) -> list[bytes]:
        """The events of one step."""
        mode, event = step.mode, step.event
        if isinstance(event, ApiError):
            return [self._result(mode)]
        if isinstance(event, Queued):
            return [sse({"mode": mode, "position": event.position}, "queue")]
        if isinstance(event, Started):
            return [self._started(mode, event)]
        if isinstance(event, Canvas):
            return self._draft(mode, event)
        chunks: list[bytes] = []
        if isinstance(event, Committed) or step.text:
            chunks.append(self._text(mode, event, step.text))
        if is_terminal(event):
            chunks.append(self._result(mode))
        return chunks

    def _started(self, mode: str, event: Started) -> bytes:
        self._began_s[mode] = event.time_s
        told = {
            "mode": mode,
            "id": self._id,
            "model": model_id(self._services, mode),
            "prompt_tokens": event.num_prompt_tokens,
            "image_tokens": event.num_image_tokens,
        }
        return sse(told, "started")

    def _text(self, mode: str, event: Committed | Finished | Failed, text: str) -> bytes:
        is_committed = isinstance(event, Committed)
        told = {
            "mode": mode,
            "text": text,
            "tokens": tokens_of(self._tokenizer, event.tokens) if is_committed else [],
            "num_forwards": event.num_forwards if is_committed else None,
            "time_ms": self._time_ms(mode, event.time_s),
        }
        return sse(told, "text")

    def _draft(self, mode: str, canvas: Canvas) -> list[bytes]:
        if not self._drafts.is_due(mode, canvas.time_s):
            return []
        told = {
            "mode": mode,
            **draft_of(self._tokenizer, canvas),
            "time_ms": self._time_ms(mode, canvas.time_s),
        }
        return [sse(told, "draft")]

    def _result(self, mode: str) -> bytes:
        return sse(self._judge.result(mode).model_dump(), "result")

    def _time_ms(self, mode: str, time_s: float) -> float:
        return round(1000 * (time_s - self._began_s.get(mode, time_s)), 3)
