"""Runs of the page end when nobody is told of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.lifecycle import Lifecycle
from vlm_dlm_app.page import runs as page_runs
from vlm_dlm_app.page.leaving import SESSION_KEY, STREAM_PATH, Followers, Leaving
from vlm_dlm_app.page.runs import Runs, Visitor

VISITOR = Visitor("tab", "client", "request", has_stream=True)


def runs_with(followers: Followers) -> Runs:
    services: Any = SimpleNamespace(lifecycle=Lifecycle(), metrics=None)
    return Runs(services, followers)


def test_a_run_that_nobody_follows_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_runs, "FOLLOW_S", 0.05)

    async def run() -> None:
        async with asyncio.timeout(5):
            await runs_with(Followers()).whole(VISITOR, asyncio.sleep(30))

    with pytest.raises(ApiError, match="stopped"):
        asyncio.run(run())


@pytest.mark.parametrize("has_stream", [True, False])
def test_one_that_is_followed_or_needs_no_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, has_stream: bool
) -> None:
    monkeypatch.setattr(page_runs, "FOLLOW_S", 0.02)
    followers = Followers()
    if has_stream:
        followers.come("tab")
    visitor = Visitor("tab", "client", "request", has_stream)
    asyncio.run(runs_with(followers).whole(visitor, asyncio.sleep(0.1)))


@pytest.mark.parametrize(
    ("path", "query", "state", "session"),
    [
        ("/gradio_api/queue/data", b"session_hash=tab", {}, "tab"),
        ("/gradio_api/call/generate/event", b"", {SESSION_KEY: "tab"}, "tab"),
        ("/gradio_api/info", b"session_hash=tab", {}, None),
        ("/gradio_api/queue/data", b"", {}, None),
    ],
)
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_stream_that_breaks_off_is_somebody_who_left(
    path: str, query: bytes, state: dict[str, str], session: str | None, is_whole: bool
) -> None:
    followers, left = Followers(), list[str]()
    followers.on_left = left.append
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(followers.has("tab"))
        await send({"type": "http.response.body", "body": b"x", "more_body": not is_whole})

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, **state}
    asyncio.run(cast(Any, Leaving(app, followers)(scope, cast(Any, None), send)))
    assert seen == [session is not None]
    assert left == ([] if is_whole or session is None else [session])
    assert not followers.has("tab")


@pytest.mark.parametrize("is_first", [True, False])
def test_who_leaves_before_the_end_is_missed_by_nobody(is_first: bool) -> None:
    """Gradio ends the stream in good order when it is the first to see that its reader is gone."""
    followers, left = Followers(), list[str]()
    followers.on_left = left.append

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if is_first:
            await receive()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await receive()  # after the end it is always said

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    query = b"session_hash=tab"
    scope = {"type": "http", "method": "GET", "path": STREAM_PATH, "query_string": query}
    asyncio.run(cast(Any, Leaving(app, followers)(scope, receive, send)))
    assert left == (["tab"] if is_first else [])
