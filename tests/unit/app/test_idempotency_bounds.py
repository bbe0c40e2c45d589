"""The memory that shared runs may take, also while they are under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from tests.unit.app.test_idempotency_store import NAME, chunks_of, read
from vlm_dlm_app.idempotency import IdempotencyStore
from vlm_dlm_app.shared_run import Chunks


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
    """Nobody reads: each is made as far as there is room."""

    async def run() -> None:
        store, made = IdempotencyStore(max_bytes=1000), [list[int]() for _ in range(6)]
        followers = [
            store.follow((client, "/route", f"{number}"), b"", endless(10, made[number]))
            for number, client in enumerate("aaabbc")
        ]
        for _ in range(100):
            await settle()
        held = [10 * len(numbers) for numbers in made]
        assert sum(held) == store.num_bytes <= 1000 + 10 * len(made)
        assert sum(held[:3]) <= 500 + 10 * 3
        assert sum(held[3:5]) <= 500 + 10 * 2
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
        await read(store.follow(("a", "/route", "old"), b"", chunks_of(bytes(90))))
        new = store.follow(("b", "/route", "new"), b"", chunks_of(*[bytes(10)] * 4))
        await read(new)
        assert await read(store.follow(("b", "/route", "new"), b"", chunks_of(b""))) == (
            [bytes(10)] * 4
        )
        assert await read(store.follow(("a", "/route", "old"), b"", chunks_of(b"a"))) == [b"a"]

    asyncio.run(run())
