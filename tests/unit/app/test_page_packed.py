"""Packed files: for whom, which, and how many are kept."""

from __future__ import annotations

import asyncio
import gzip
import random
from typing import Any

import pytest

from vlm_dlm_app.page import packed
from vlm_dlm_app.page.packed import Packed

TEXT = b"a line of a script;\n" * 500


class Inner:
    def __init__(self, status: int = 200, body: bytes = TEXT) -> None:
        self.status, self.body, self.num_asked = status, body, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert b"accept-encoding" not in dict(scope["headers"]), "it would pack"
        self.num_asked += 1
        headers = [(b"etag", b'"x"'), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        half = len(self.body) // 2
        await send({"type": "http.response.body", "body": self.body[:half], "more_body": True})
        await send({"type": "http.response.body", "body": self.body[half:]})


async def ask(
    app: Any, path: str = "/assets/x.js", accepts: bytes = b"gzip"
) -> tuple[dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"accept-encoding", accepts)]
    await app({"type": "http", "path": path, "headers": headers}, None, send)
    return dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("accepts", [b"gzip", b"br, gzip", b"deflate,gzip;q=1.0, *;q=0.1"])
@pytest.mark.parametrize("path", ["/assets/x.js", "/static/a.css", "/theme.css", "/assets/i.svg"])
def test_it_is_packed_once(accepts: bytes, path: str) -> None:
    async def run() -> None:
        inner = Inner()
        app = Packed(inner)
        for headers, body in await asyncio.gather(*(ask(app, path, accepts) for _ in range(9))):
            assert gzip.decompress(body) == TEXT
            assert headers[b"content-length"] == str(len(body)).encode()
            assert headers[b"etag"] == b'W/"x"'
            assert headers[b"vary"] == b"Accept-Encoding"
        assert inner.num_asked == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "accepts"),
    [
        ("/assets/x.js", b""),
        ("/assets/x.js", b"br"),
        ("/assets/x.js", b"gzip;q=0"),
        ("/assets/x.woff2", b"gzip"),
        ("/gradio_api/queue/data", b"gzip"),
        ("/config", b"gzip"),
    ],
)
def test_all_else_is_handed_on_as_it_is(path: str, accepts: bytes) -> None:
    headers, body = asyncio.run(ask(Packed(Inner()), path, accepts))
    assert body == TEXT
    assert b"content-encoding" not in headers


@pytest.mark.parametrize(("status", "body"), [(404, TEXT), (200, b"short")])
def test_what_is_no_file_or_short_is_not_kept(status: int, body: bytes) -> None:
    async def run() -> None:
        inner = Inner(status, body)
        app = Packed(inner)
        for _ in range(2):
            headers, got = await ask(app)
            assert got == body
            assert b"content-encoding" not in headers
        assert inner.num_asked == 2

    asyncio.run(run())


def test_a_small_file_waits_for_no_other() -> None:
    async def run() -> None:
        may_go_on = asyncio.Event()

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            is_small = scope["path"] == "/assets/small.js"
            if not is_small:
                await may_go_on.wait()
            await Inner(body=b"short" if is_small else TEXT)(scope, receive, send)

        app = Packed(inner)
        await ask(app, "/assets/small.js")
        large = asyncio.create_task(ask(app, "/assets/large.js"))
        await asyncio.sleep(0)
        assert (await asyncio.wait_for(ask(app, "/assets/small.js"), 5))[1] == b"short"
        may_go_on.set()
        await large

    asyncio.run(run())


def test_more_than_may_be_kept_is_sent_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_KEPT_BYTES", 10)
    _, body = asyncio.run(ask(Packed(Inner())))
    assert gzip.decompress(body) == TEXT


def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_KEPT_BYTES", 10_000)

    async def run() -> None:
        app = Packed(Inner(body=random.Random(0).randbytes(3000)))
        for index in range(9):
            await ask(app, f"/assets/{index}.js")
        kept = app._kept  # pyright: ignore[reportPrivateUsage]
        assert kept.keys() == [f"/assets/{index}.js" for index in (6, 7, 8)]

    asyncio.run(run())
