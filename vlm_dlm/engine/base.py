"""The engine interface that the API, the page and every backend share.

It sits above the scheduler, because other backends bring their own. A backend that lacks a mode
says so in `capabilities`; nothing falls back silently.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, fields

from vlm_dlm.decoding import MODES
from vlm_dlm.events import GenerationEvent
from vlm_dlm.request import GenerationRequest

ENGINE_FAILED = "the engine failed while this request was running"


@dataclass(frozen=True, slots=True)
class ModeInfo:
    """One mode an engine offers.

    name: what a request asks for.
    title: for people.
    summary: how it writes, in a few words.
    is_lossless: greedy text equals that of `ar` (float32).
    options: names of its parameters.
    """

    name: str
    title: str
    summary: str
    is_lossless: bool
    options: tuple[str, ...]


def describe_modes(names: Iterable[str] = MODES, has_options: bool = True) -> tuple[ModeInfo, ...]:
    """What an engine says that runs these modes. has_options: and takes their parameters."""
    return tuple(
        ModeInfo(
            mode.name,
            mode.title,
            mode.summary,
            mode.is_lossless,
            tuple(field.name for field in fields(mode.Params)) if has_options else (),
        )
        for mode in (MODES[name] for name in names)
    )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do.

    modes: in the order in which they are shown.
    max_context: tokens, prompt and answer together.
    max_running: requests that share a forward.
    max_cache_tokens: cache for all running requests together; None for no limit.
    page_size: tokens per page; each request takes whole pages for its worst case.
    needs_pictures: `ImageInput.picture` must be there.
    """

    modes: tuple[ModeInfo, ...]
    max_context: int
    max_running: int
    max_cache_tokens: int | None = None
    page_size: int = 1
    needs_pictures: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Whether an engine gets on.

    num_steps: done so far.
    is_busy: in one now.
    longest_s: seconds that the longest took.
    """

    num_steps: int
    is_busy: bool
    longest_s: float


class Engine(ABC):
    """Runs requests concurrently and tells each caller what happens to theirs."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Modes and limits; constant for the life of the engine."""

    def capabilities_of(self, mode: str) -> Capabilities:
        """Limits of what runs this mode, where several do."""
        del mode  # for engines of several parts
        return self.capabilities

    @abstractmethod
    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Events of one request, ending in exactly one Finished or Failed.

        Closing the iterator aborts the request and frees what it holds. A request that can never
        run raises BadInputError or CapacityError at the first `anext`.
        """

    def on_broken(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, from any thread, when nothing can be run any more although nobody
        closed it; at once if that has happened. Every open stream has had its terminal event."""
        del callback  # for engines that can break

    @property
    def progress(self) -> Progress | None:
        """From any thread, at once. None where steps are not its own."""
        return None

    @abstractmethod
    async def close(self) -> None:
        """Abort everything and stop. Every open stream still gets its terminal event."""
