"""The memory that shared runs may take, also while they are under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from tests.unit.app.test_idempotency_store import NAME, Clock, chunks_of, read
from vlm_dlm_app.http.idempotency import IdempotencyStore
from vlm_dlm_app.http.shared_run import Chunks


async def settle() -> None:
    """Everything that can go on has."""
    for _ in range(20):
        await asyncio.sleep(0)


def endless(size: int, made: list[int]) -> Callable[[], Chunks]:
    """Chunks of that size; made: their numbers."""

    async def produce() -> AsyncGenerator[bytes, None]:
        while True:
            made.append(len(made))
            yield bytes(size)
            await asyncio.sleep(0)

    return produce


def test_answers_under_way_are_bounded_for_each_client_and_in_all() -> None:
    """Nobody reads: each is made as far as there is room, and two chunks more: with one it is found
    to be too much, the other was being made."""

    async def run() -> None:
        store, made = IdempotencyStore(max_bytes=1000), [list[int]() for _ in range(6)]
        followers = [
            store.follow((client, "/route", f"{number}"), b"", endless(10, made[number]))
            for number, client in enumerate("aaabbc")
        ]
        for _ in range(100):
            await settle()
        held = [10 * len(numbers) for numbers in made]
        assert sum(held) == store.num_bytes <= 1000 + 20 * len(made)
        assert sum(held[:3]) <= 500 + 20 * 3
        assert sum(held[3:5]) <= 500 + 20 * 2
        for follower in followers:
            await follower.aclose()
        await store.close()
        assert (len(store), store.num_bytes) == (0, 0)

    asyncio.run(run())


def test_an_answer_that_is_not_kept_reaches_those_who_follow_it() -> None:
    async def run() -> None:
        store = IdempotencyStore(max_bytes=100)
        chunks = [bytes([number]) * 10 for number in range(50)]
        first, second = (store.follow(NAME, b"", chunks_of(*chunks)) for _ in range(2))
        reading = asyncio.create_task(read(first))
        await settle()
        assert store.num_bytes == 60
        assert not reading.done()  # it waits for the second
        late = store.follow(NAME, b"", chunks_of(b"late"))
        assert await read(late) == [b"late"]
        assert await read(second) == chunks
        assert await reading == chunks
        assert store.num_bytes == 0
        for _ in range(2):
            again = store.follow(NAME, b"", chunks_of(b"again"))
            assert await read(again) == [b"again"]
        assert store.num_bytes == len(b"again")

    asyncio.run(run())


def test_one_that_is_not_kept_ends_where_nobody_follows_it() -> None:
    async def run() -> None:
        store, made = IdempotencyStore(max_bytes=100), list[int]()
        follower = store.follow(NAME, b"", endless(30, made))
        await settle()
        assert len(made) < 5
        await follower.aclose()
        await settle()
        assert (len(store), store.num_bytes) == (0, 0)

        await store.follow(NAME, b"", endless(30, made)).aclose()  # nobody from the start
        await settle()
        assert (len(store), store.num_bytes) == (0, 0)

    asyncio.run(run())


def test_answers_that_have_ended_make_room_for_those_under_way() -> None:
    async def run() -> None:
        store = IdempotencyStore(max_bytes=100)
        for client in "ab":
            await read(store.follow((client, "/route", "old"), b"", chunks_of(bytes(45))))
        new = store.follow(("c", "/route", "new"), b"", chunks_of(*[bytes(10)] * 4))
        await read(new)
        assert await read(store.follow(("c", "/route", "new"), b"", chunks_of(b""))) == (
            [bytes(10)] * 4
        )
        assert await read(store.follow(("b", "/route", "old"), b"", chunks_of(b"b"))) == [bytes(45)]
        assert await read(store.follow(("a", "/route", "old"), b"", chunks_of(b"a"))) == [b"a"]

    asyncio.run(run())


def test_a_short_answer_is_not_lost_to_others_who_do_not_read() -> None:
    """Its client has left, and may come back: two others fill all there is meanwhile."""

    async def run() -> None:
        store, gate = IdempotencyStore(max_bytes=1000), asyncio.Event()
        name = ("c", "/route", "short")
        left = store.follow(name, b"", chunks_of(b"1", b"2", gate=gate))
        await settle()
        await left.aclose()
        greedy = [store.follow((client, "/route", ""), b"", endless(10, [])) for client in "ab"]
        for _ in range(30):
            await settle()
        assert store.num_bytes > 1000
        for _ in range(5):  # room for one chunk, and filled again
            await anext(greedy[0])
            await settle()
        back = store.follow(name, b"", chunks_of(b"another run"))
        gate.set()
        assert await read(back) == [b"1", b"2"]
        await store.close()

    asyncio.run(run())


def test_answers_that_are_dropped_count_until_they_are_read() -> None:
    async def run() -> None:
        clock = Clock()
        store = IdempotencyStore(max_bytes=1000, keep_s=10, clock=clock)
        unread = [
            store.follow(("a", "/route", str(number)), b"", chunks_of(bytes(95)))
            for number in range(5)
        ]
        await settle()
        clock.now = 10  # what is too old is dropped, and still has to be read
        greedy = store.follow(("a", "/route", "more"), b"", endless(10, []))
        for _ in range(100):
            await settle()
        assert (len(store), store.num_bytes) == (1, 475 + 30)
        other = store.follow(("b", "/route", "key"), b"", chunks_of(*[bytes(10)] * 40))
        assert await read(other) == [bytes(10)] * 40
        again = store.follow(("b", "/route", "key"), b"", chunks_of(b"another run"))
        assert await read(again) == [bytes(10)] * 40
        for follower in (*unread, greedy):
            await follower.aclose()
        await settle()
        assert store.num_bytes == 400
        await read(store.follow(("a", "/route", "new"), b"", chunks_of(bytes(450))))
        kept = store.follow(("a", "/route", "new"), b"", chunks_of(b"another run"))
        assert await read(kept) == [bytes(450)]  # all that it had is freed

    asyncio.run(run())


def test_where_all_is_unread_what_grows_is_not_kept() -> None:
    """Nobody above the share has anything left to give: the bound holds all the same."""

    async def run() -> None:
        store = IdempotencyStore(max_bytes=1000)
        greedy = [store.follow((client, "/route", ""), b"", endless(10, [])) for client in "ab"]
        for _ in range(30):
            await settle()
        late = store.follow(("c", "/route", ""), b"", endless(10, []))
        for _ in range(30):
            await settle()
        assert store.num_bytes <= 1000 + 20 * 3
        for follower in (*greedy, late):
            await follower.aclose()
        await store.close()
        assert store.num_bytes == 0

    asyncio.run(run())


def test_one_client_holds_half_of_what_is_kept() -> None:
    async def run() -> None:
        store = IdempotencyStore(max_bytes=1000)
        for number in range(20):
            await read(store.follow(("a", "/route", str(number)), b"", chunks_of(bytes(100))))
        assert (len(store), store.num_bytes) == (5, 500)

    asyncio.run(run())
