"""One run for all requests with the same Idempotency-Key: who comes later joins or replays."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from fastapi import Request

from vlm_dlm.shares import share_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.held_bytes import HOLD_KEY, Hold
from vlm_dlm_app.http.shared_run import Chunks, Follower, Run

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 255
MAX_RUNS = 256
MAX_STORED_BYTES = 64 * 2**20
LINGER_S = 10.0  # for the last one who left to come back


def _always() -> bool:
    return True


async def replayed_stream(
    store: IdempotencyStore,
    request: Request,
    client: str,
    digest: bytes,
    produce: Callable[[], Chunks],
    is_good: Callable[[], bool] = _always,
) -> Chunks | Follower:
    """The chunks of a streamed answer, to be closed (`aclose`) by who follows them.

    Without an Idempotency-Key they are simply `produce()`. With one, the same client asking the
    same route with an equal `digest` gets the chunks of the run that is under way or has ended
    well, from the first one on. `produce` must not watch the client's connection: it may outlive
    it. An error that it raises goes to everybody who follows, and nothing is kept.

    digest: of what the answer depends on, by `digest_of`; needed only with a key. is_good: asked at
    the end, False if the answer is not worth keeping.
    Raises ApiError: 400 for a key that is none, or the key of another body.
    """
    key = key_of(request)
    if key is None:
        return produce()
    hold = request.scope["state"].get(HOLD_KEY)
    return store.follow((client, request.url.path, key), digest, produce, is_good, hold)


async def replayed_reply(
    store: IdempotencyStore,
    request: Request,
    client: str,
    digest: bytes,
    produce: Callable[[], Awaitable[bytes]],
    is_good: Callable[[], bool] = _always,
) -> bytes:
    """A whole answer, as `replayed_stream` does it for streams.

    To notice a client who leaves: `await while_connected(request, replayed_reply(...))`.
    """
    if key_of(request) is None:
        return await produce()

    async def one_chunk() -> Chunks:
        yield await produce()

    follower = await replayed_stream(store, request, client, digest, one_chunk, is_good)
    try:
        return b"".join([chunk async for chunk in follower])
    finally:
        await follower.aclose()


def key_of(request: Request) -> str | None:
    """The request's key, None without one. Raises ApiError (400) for one of a wrong form."""
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        message = f"{HEADER} must be 1 to {MAX_KEY_CHARS} printable ASCII characters, given once"
        raise ApiError("bad_idempotency_key", message, HEADER)
    return key


def digest_of(body: Sequence[bytes]) -> bytes:
    """SHA-256 of the pieces' own digests. Takes milliseconds per MB: not for the event loop."""
    return hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in body)).digest()


@dataclass(slots=True)
class _Entry:
    """ended_s: moment of its good end, None while it runs."""

    digest: bytes
    run: Run
    ended_s: float | None = None


class IdempotencyStore:
    """Runs under way, and answers kept for `keep_s` seconds, the oldest dropped first. A name's
    first part is the client.

    max_bytes bounds what is held of all, under way or ended, half of it what is held of one client.
    Beyond that a run goes on for those who follow it, but is not kept: who comes later starts
    another. linger_s: how long a run goes on that nobody follows, if it is kept.
    """

    def __init__(
        self,
        keep_s: float = 600.0,
        max_runs: int = MAX_RUNS,
        max_bytes: int = MAX_STORED_BYTES,
        clock: Callable[[], float] = monotonic,
        linger_s: float = LINGER_S,
    ) -> None:
        self.keep_s = keep_s
        self.linger_s = linger_s
        self.max_runs = max_runs
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._held: Counter[str] = Counter()  # by whom, until it is freed: ended, dropped or not
        self._clock = clock
        self._entries: OrderedDict[tuple[str, ...], _Entry] = OrderedDict()
        self._running: dict[Run, str] = {}  # whose; abandoned ones too, until they have ended

    def __len__(self) -> int:
        return len(self._entries)

    async def close(self) -> None:
        """End every run that goes on, and wait until they have ended."""
        runs = list(self._running)
        for run in runs:
            run.stop()
        await asyncio.gather(*(run.ended() for run in runs))

    def follow(
        self,
        name: tuple[str, ...],
        digest: bytes,
        produce: Callable[[], Chunks],
        is_good: Callable[[], bool] = _always,
        hold: Hold | None = None,
    ) -> Follower:
        """Join the run of this name, or start it. digest: of the body that it answers; hold: what
        that counts for, which a run that is started takes, as it may outlive the request.

        Raises ApiError (400) if the run's is another.
        """
        self._drop_old()
        entry = self._entries.get(name)
        if entry is not None and entry.digest != digest:
            message = f"this {HEADER} belongs to a request with another body"
            raise ApiError("idempotency_mismatch", message, HEADER)
        if entry is None or entry.run.is_abandoned or not entry.run.is_kept:
            run = Run(produce, is_good, self.linger_s)
            entry = self._entries[name] = _Entry(digest, run)
            self._running[run] = name[0]
            if hold is not None:
                hold.is_taken = True
            run.start(
                lambda num_bytes: self._count(name[0], run, num_bytes),
                lambda is_good: self._settle(name, entry, is_good, hold),
            )
        self._entries.move_to_end(name)
        return Follower(entry.run)

    def _settle(
        self, name: tuple[str, ...], entry: _Entry, is_good: bool, hold: Hold | None
    ) -> None:
        """A run has ended: keep it, or make way for another try."""
        if hold is not None:
            hold.let_go()
        del self._running[entry.run]
        is_current = self._entries.get(name) is entry  # else another took its place
        if is_current and is_good and entry.run.is_kept:
            entry.ended_s = self._clock()
            self._drop_old()
            return
        if is_current:
            del self._entries[name]
        entry.run.forget()

    def _count(self, client: str, run: Run, num_bytes: int) -> None:
        """A run of this client holds so many more."""
        self.num_bytes += num_bytes
        self._held[client] += num_bytes
        if not self._held[client]:
            del self._held[client]
        if num_bytes > 0 and (self._is_full or self._held[client] > self._share):
            self._make_room(run)

    @property
    def _is_full(self) -> bool:
        return self.num_bytes > self.max_bytes

    @property
    def _share(self) -> int:
        """The bytes that one client may hold: half, or an equal part where all hold too much."""
        equal = self.max_bytes // len(self._held) if self._is_full else self.max_bytes
        return min(share_of(self.max_bytes, least=0), equal)

    def _make_room(self, growing: Run) -> None:
        """Who is above the share gives way, who holds most first: its oldest answers, then one run
        under way, for that may free nothing until it has been read. Where nobody else can, the one
        that grows is not kept. So nobody's answers are driven out by another's."""
        for client, _ in self._held.most_common():
            for name, _ in self._ended(client):
                if self._held[client] > self._share:
                    self._drop(name)
            kept = [run for run, whose in self._running.items() if whose == client and run.is_kept]
            if kept and self._held[client] > self._share:
                max(kept, key=lambda run: run.num_bytes).forget()
                return
        if self._is_full:
            growing.forget()

    def _drop_old(self) -> None:
        """What is kept too long, and of too many the oldest of the client that has most."""
        now = self._clock()
        for name, entry in self._ended():
            if entry.ended_s is not None and now - entry.ended_s >= self.keep_s:
                self._drop(name)
        while len(self._entries) > self.max_runs and (ended := self._ended()):
            most = Counter(name[0] for name, _ in ended).most_common(1)[0][0]
            self._drop(self._ended(most)[0][0])

    def _ended(self, client: str | None = None) -> list[tuple[tuple[str, ...], _Entry]]:
        """What is kept, of all or of one, the oldest first."""
        return [
            (name, entry)
            for name, entry in self._entries.items()
            if entry.ended_s is not None and client in (None, name[0])
        ]

    def _drop(self, name: tuple[str, ...]) -> None:
        self._entries.pop(name).run.forget()
