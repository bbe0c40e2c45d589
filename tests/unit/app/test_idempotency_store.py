"""Runs that are shared, without a server: who gets what, and what is kept for how long."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

import pytest

from vlm_dlm.errors import EngineError
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.held_bytes import HeldBytes, Hold
from vlm_dlm_app.http.idempotency import IdempotencyStore, digest_of
from vlm_dlm_app.http.shared_run import Chunks, Follower, Run

NAME = ("client", "/route", "key")


class Clock:
    """Stands still until told otherwise."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def read(follower: Follower) -> list[bytes]:
    try:
        return [chunk async for chunk in follower]
    finally:
        await follower.aclose()


def chunks_of(*chunks: bytes, gate: asyncio.Event | None = None) -> Callable[[], Chunks]:
    """Produces these; the last one waits for the gate."""

    async def produce() -> AsyncGenerator[bytes, None]:
        for chunk in chunks[:-1]:
            yield chunk
        if gate is not None:
            await gate.wait()
        yield chunks[-1]

    return produce


def test_who_joins_late_gets_everything_from_the_start() -> None:
    async def run() -> None:
        store, gate = IdempotencyStore(), asyncio.Event()
        first = store.follow(NAME, b"", chunks_of(b"a", b"b", b"c", gate=gate))
        assert [await anext(first), await anext(first)] == [b"a", b"b"]
        second = store.follow(NAME, b"", chunks_of(b"never"))
        assert await anext(second) == b"a"
        gate.set()
        assert await read(second) == [b"b", b"c"]
        assert await read(first) == [b"c"]
        assert await read(store.follow(NAME, b"", chunks_of(b"never"))) == [b"a", b"b", b"c"]

    asyncio.run(run())


def test_one_who_leaves_does_not_end_the_run_for_others() -> None:
    async def run() -> None:
        store, gate = IdempotencyStore(), asyncio.Event()
        first = store.follow(NAME, b"", chunks_of(b"a", b"b", gate=gate))
        second = store.follow(NAME, b"", chunks_of(b"never"))
        assert await anext(first) == b"a"
        await first.aclose()
        await first.aclose()  # twice is as good as once
        gate.set()
        assert await read(second) == [b"a", b"b"]

    asyncio.run(run())


def test_a_cancelled_follower_may_still_be_closed() -> None:
    async def run() -> None:
        store = IdempotencyStore(linger_s=0)
        follower = store.follow(NAME, b"", chunks_of(b"a", gate=asyncio.Event()))
        waiting = asyncio.create_task(read(follower))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await asyncio.sleep(0.01)
        assert len(store) == 0

    asyncio.run(run())


def test_an_abandoned_run_is_not_joined() -> None:
    """It may take a while to end; who asks meanwhile gets a run of its own."""

    async def run() -> None:
        store, holding = IdempotencyStore(linger_s=0), asyncio.Event()

        async def stubborn() -> AsyncGenerator[bytes, None]:
            try:
                yield b"old"
                await asyncio.Event().wait()
            finally:
                await holding.wait()

        follower = store.follow(NAME, b"", stubborn)
        assert await anext(follower) == b"old"
        await follower.aclose()
        await asyncio.sleep(0.01)
        assert await read(store.follow(NAME, b"", chunks_of(b"new"))) == [b"new"]
        holding.set()
        await asyncio.sleep(0.01)
        assert await read(store.follow(NAME, b"", chunks_of(b"never"))) == [b"new"]

    asyncio.run(run())


def test_who_comes_back_in_time_stops_the_clock() -> None:
    async def run() -> None:
        store, gate = IdempotencyStore(linger_s=0.05), asyncio.Event()
        await store.follow(NAME, b"", chunks_of(b"a", b"b", gate=gate)).aclose()
        back = store.follow(NAME, b"", chunks_of(b"never"))
        await asyncio.sleep(0.1)
        gate.set()
        assert await read(back) == [b"a", b"b"]

    asyncio.run(run())


def test_closing_the_store_ends_what_lingers() -> None:
    async def run() -> None:
        store, is_ended = IdempotencyStore(), False

        async def endless() -> AsyncGenerator[bytes, None]:
            nonlocal is_ended
            try:
                yield b"a"
                await asyncio.Event().wait()
            finally:
                is_ended = True

        follower = store.follow(NAME, b"", endless)
        assert await anext(follower) == b"a"
        await follower.aclose()
        await store.close()
        assert is_ended
        assert len(store) == 0

    asyncio.run(run())


def test_what_ends_before_its_first_step_leaves_nothing() -> None:
    async def run() -> None:
        store = IdempotencyStore()
        waiting = asyncio.create_task(read(store.follow(NAME, b"", chunks_of(b"never"))))
        await store.close()
        assert len(store) == 0
        with pytest.raises(EngineError):
            await asyncio.wait_for(waiting, 5)
        assert await read(store.follow(NAME, b"", chunks_of(b"a"))) == [b"a"]

    asyncio.run(run())


def test_one_that_is_stopped_after_its_end_is_still_good() -> None:
    async def run() -> None:
        async def produce() -> AsyncGenerator[bytes, None]:
            yield b"a"
            asyncio.get_running_loop().call_soon(shared.stop)

        shared, ends = Run(produce, lambda: True, 10), list[bool]()
        shared.start(lambda _: None, ends.append)
        await shared.ended()
        assert (ends, shared.is_abandoned) == ([True], False)

    asyncio.run(run())


def test_another_body_is_refused_though_the_run_is_not_kept() -> None:
    async def run() -> None:
        store = IdempotencyStore(max_bytes=2)
        follower = store.follow(NAME, b"one", chunks_of(b"a", b"b", b"c"))
        await asyncio.sleep(0.01)
        with pytest.raises(ApiError, match="another body"):
            store.follow(NAME, b"two", chunks_of(b"never"))
        assert await read(follower) == [b"a", b"b", b"c"]

    asyncio.run(run())


def test_the_digest_tells_where_pieces_end() -> None:
    assert digest_of([b"ab", b"c"]) != digest_of([b"a", b"bc"])


def test_errors_reach_all_followers_and_nothing_is_kept() -> None:
    async def run() -> None:
        store, gate = IdempotencyStore(), asyncio.Event()

        async def failing() -> AsyncGenerator[bytes, None]:
            yield b"a"
            await gate.wait()
            raise ApiError("unavailable", "not now")

        followers = [store.follow(NAME, b"", failing) for _ in range(2)]
        readers = [asyncio.create_task(read(follower)) for follower in followers]
        await asyncio.sleep(0.01)
        gate.set()
        for reader in readers:
            with pytest.raises(ApiError, match="not now"):
                await reader
        assert (len(store), store.num_bytes) == (0, 0)

    asyncio.run(run())


def test_answers_are_kept_for_a_while_and_within_bounds() -> None:
    async def run() -> None:
        clock = Clock()
        store = IdempotencyStore(keep_s=10, max_runs=3, max_bytes=100, clock=clock)

        async def fill(key: str, data: bytes) -> bytes:
            follower = store.follow(("c", "r", key), b"", chunks_of(data))
            return b"".join(await read(follower))

        assert await fill("a", b"1") == b"1"
        clock.now = 9.9
        assert await fill("a", b"2") == b"1"
        clock.now = 10.0
        assert await fill("a", b"2") == b"2"
        for key in "bcd":
            await fill(key, b"x" * 10)
        assert await fill("d", b"other") == b"x" * 10
        assert await fill("a", b"3") == b"3"  # the oldest of four made room
        await fill("e", b"y" * 101)
        assert await fill("e", b"z") == b"z"  # too large to be kept
        assert len(store) <= 4
        clock.now = 1000
        await fill("f", b"")
        assert (len(store), store.num_bytes) == (1, 0)

    asyncio.run(run())


class Asked:
    """A request with its pictures, and what answers it."""

    def __init__(self, is_good: bool = True) -> None:
        self.is_good = is_good

    async def answer(self) -> AsyncGenerator[bytes, None]:
        yield b"x"

    def is_kept(self) -> bool:
        return self.is_good


@pytest.mark.parametrize("is_good", [True, False])
@pytest.mark.parametrize("is_stopped", [True, False])
def test_what_is_kept_is_the_answer_and_not_what_was_asked(is_good: bool, is_stopped: bool) -> None:
    async def run() -> None:
        store = IdempotencyStore()
        asked = Asked(is_good)
        is_gone = weakref.ref(asked)
        follower = store.follow(NAME, b"", asked.answer, asked.is_kept)
        del asked
        if is_stopped:
            await store.close()
        with suppress(EngineError):
            assert await read(follower) == [b"x"]
        assert len(store) == int(is_good and not is_stopped)
        gc.collect()
        assert is_gone() is None

    asyncio.run(run())


def test_what_was_asked_counts_until_the_run_has_ended() -> None:
    async def run() -> None:
        held, gate = HeldBytes(1000, 100), asyncio.Event()
        hold, joined = Hold(held, "client"), Hold(held, "client")
        hold.grow_to(80)
        joined.grow_to(80)
        store = IdempotencyStore()
        first = store.follow(NAME, b"", chunks_of(b"x", gate=gate), hold=hold)
        second = store.follow(NAME, b"", chunks_of(b"never"), hold=joined)
        assert hold.is_taken
        assert not joined.is_taken  # its request ends by itself
        joined.let_go()
        await first.aclose()
        await second.aclose()
        assert held.num_bytes == 80  # it goes on, should anybody come back
        await store.close()
        assert held.num_bytes == 0

    asyncio.run(run())


def test_a_producer_that_is_cancelled_from_elsewhere_fails_its_followers() -> None:
    async def run() -> None:
        store = IdempotencyStore()

        async def odd() -> AsyncGenerator[bytes, None]:
            yield b"a"
            raise asyncio.CancelledError

        follower = store.follow(NAME, b"", odd)
        with suppress(Exception):
            await asyncio.wait_for(read(follower), 5)
        assert len(store) == 0

    asyncio.run(run())


@pytest.mark.parametrize("limits", [{"max_runs": 8}, {"max_bytes": 8}], ids=["runs", "bytes"])
def test_nobody_drives_out_the_answers_of_another(limits: dict[str, Any]) -> None:
    async def run() -> None:
        store = IdempotencyStore(**limits)
        await read(store.follow(("few", "/route", "key"), b"", chunks_of(b"a")))
        for number in range(100):
            await read(store.follow(("many", "/route", str(number)), b"", chunks_of(b"b")))
        kept = store.follow(("few", "/route", "key"), b"", chunks_of(b"anew"))
        assert await read(kept) == [b"a"]
        last = store.follow(("many", "/route", "99"), b"", chunks_of(b"anew"))
        assert await read(last) == [b"b"]
        assert len(store) <= 9

    asyncio.run(run())
