"""One run per Idempotency-Key: joined while it runs, replayed when it has ended well."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from app.errors import ApiError
from app.idempotency import Chunks, Follower, IdempotencyStore
from tests.api.serving import LiveServer, until
from vlm_dlm.engine.scripted_engine import Script

NAME = ("client", "/route", "key")
SLOW = Script(("one ", "two ", "three ", "four ") * 5, step_s=0.02)


def ask(server: LiveServer, key: str | None, path: str = "chat/completions", **body: Any) -> Any:
    """One request, whole or streamed, as the client got it."""
    content = {"messages": [{"role": "user", "content": "hi"}], **body}
    headers = {} if key is None else {"Idempotency-Key": key}
    url = f"{server.url}/v1/{path}"
    return httpx.post(url, json=content, headers=headers, timeout=30, trust_env=False)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_second_try_gets_the_stored_answer(server: LiveServer, is_stream: bool) -> None:
    key = f"again-{is_stream}"
    first, second = (ask(server, key, stream=is_stream) for _ in range(2))
    assert first.status_code == 200
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"]
    assert len(server.engine.requests) == 1


def test_without_a_key_every_request_runs(server: LiveServer) -> None:
    first, second = (ask(server, None) for _ in range(2))
    assert first.json()["id"] != second.json()["id"]
    assert len(server.engine.requests) == 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_requests_at_the_same_time_share_one_run(server: LiveServer, is_stream: bool) -> None:
    server.engine.play(SLOW)
    key = f"together-{is_stream}"
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: ask(server, key, stream=is_stream), range(5)))
    assert len({reply.content for reply in replies}) == 1
    assert len(server.engine.requests) == 1


def test_another_body_under_the_same_key_is_refused(server: LiveServer) -> None:
    assert ask(server, "body", seed=1).status_code == 200
    reply = ask(server, "body", seed=2)
    assert reply.status_code == 422
    assert reply.json()["error"]["code"] == "idempotency_mismatch"


def test_another_route_is_another_key(server: LiveServer) -> None:
    assert ask(server, "route").status_code == 200
    form = {"prompt": "hi"}
    url, headers = f"{server.url}/v1/generate", {"Idempotency-Key": "route"}
    files = {"image": ("a.png", b"no picture", "image/png")}
    reply = httpx.post(url, data=form, files=files, headers=headers, timeout=30, trust_env=False)
    assert reply.json()["error"]["code"] != "idempotency_mismatch"


def test_multipart_tries_differ_in_their_boundary_only(server: LiveServer) -> None:
    url, headers = f"{server.url}/v1/generate", {"Idempotency-Key": "form"}
    fields = {"prompt": (None, "hi")}

    def post(text: str) -> httpx.Response:
        form = {**fields, "mode": (None, text)}
        return httpx.post(url, files=form, headers=headers, timeout=30, trust_env=False)

    first, second = post("ar"), post("ar")
    assert first.status_code == 200, first.text
    assert first.content == second.content
    assert post("diffusion").status_code == 422


@pytest.mark.parametrize("key", ["", "a" * 256, "é", "a\tb"])
def test_a_key_of_a_wrong_form_is_refused(server: LiveServer, key: str) -> None:
    url, headers = f"{server.url}/v1/chat/completions", {"Idempotency-Key": key.encode("latin-1")}
    body = {"messages": [{"role": "user", "content": "hi"}]}
    reply = httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)  # type: ignore[arg-type]
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_idempotency_key")
    assert not server.engine.requests


def test_a_failure_is_not_kept(server: LiveServer) -> None:
    server.engine.play(Script(fail_after=1))
    assert ask(server, "failed").status_code == 500
    server.engine.play(Script())
    assert ask(server, "failed").status_code == 200


def test_the_last_follower_to_leave_ends_the_run(server: LiveServer) -> None:
    server.engine.play(Script(("word ",) * 500, step_s=0.02))
    leave = threading.Event()

    def follow() -> None:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 500}
        url, headers = f"{server.url}/v1/chat/completions", {"Idempotency-Key": "leaving"}
        with httpx.stream(
            "POST", url, json=body, headers=headers, timeout=30, trust_env=False
        ) as reply:
            pieces = reply.iter_raw()  # to be kept: its end would close the connection
            next(pieces)
            leave.wait(10)

    first, second = (threading.Thread(target=follow) for _ in range(2))
    first.start()
    until(lambda: server.engine.inner.num_running == 1)
    second.start()
    until(lambda: server.services.lifecycle.num_open == 2)
    assert len(server.engine.requests) == 1
    assert server.engine.inner.num_running == 1
    aborted = server.engine.inner.num_aborted
    leave.set()
    until(lambda: server.engine.inner.num_running == 0)
    assert server.engine.inner.num_aborted == aborted + 1
    first.join()
    second.join()
    assert ask(server, "leaving", max_tokens=1).status_code == 200  # the key is free again


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
        store = IdempotencyStore()
        follower = store.follow(NAME, b"", chunks_of(b"a", gate=asyncio.Event()))
        waiting = asyncio.create_task(read(follower))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert len(store) == 0

    asyncio.run(run())


def test_an_abandoned_run_is_not_joined() -> None:
    """It may take a while to end; who asks meanwhile gets a run of its own."""

    async def run() -> None:
        store, holding = IdempotencyStore(), asyncio.Event()

        async def stubborn() -> AsyncGenerator[bytes, None]:
            try:
                yield b"old"
                await asyncio.Event().wait()
            finally:
                await holding.wait()

        follower = store.follow(NAME, b"", stubborn)
        assert await anext(follower) == b"old"
        leaving = asyncio.create_task(follower.aclose())
        await asyncio.sleep(0)
        assert await read(store.follow(NAME, b"", chunks_of(b"new"))) == [b"new"]
        holding.set()
        await leaving
        assert await read(store.follow(NAME, b"", chunks_of(b"never"))) == [b"new"]

    asyncio.run(run())


def test_errors_reach_all_followers_and_nothing_is_kept() -> None:
    async def run() -> None:
        store, gate = IdempotencyStore(), asyncio.Event()

        async def failing() -> AsyncGenerator[bytes, None]:
            yield b"a"
            await gate.wait()
            raise ApiError(503, "unavailable", "not now")

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
