"""The page's large documents are made once, and differ by the server's name alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vlm_dlm_app.page.documents import MAX_KEPT, Documents


class Inner:
    """Answers with the name that it is called by, and counts."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        host = dict(scope["headers"])[b"host"]
        body = b"<a href='%s://%s%s%s'>" % tuple(
            part if isinstance(part, bytes) else part.encode()
            for part in (scope["scheme"], host, scope["root_path"], scope["path"])
        )
        headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(body))]
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": body[5:]})


async def ask(
    app: Any, path: str = "/", host: str = "a.example:80", scheme: str = "http", prefix: str = ""
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode()), (b"accept-encoding", b"gzip")]
    scope = {"type": "http", "path": path, "scheme": scheme, "root_path": prefix}
    await app({**scope, "headers": headers}, None, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


def test_it_is_made_once_and_reads_as_if_made_for_each() -> None:
    async def run() -> None:
        inner = Inner()
        kept = Documents(inner)
        for asked in (
            *({}, {"host": "b"}, {"host": "[::1]:9"}, {"scheme": "https"}, {"prefix": "/vlm"}),
            *({"path": "/config"}, {"path": "/gradio_api/info", "host": "c.d"}),
        ):
            assert await ask(kept, **asked) == await ask(Inner(), **asked)
        assert len(inner.paths) == 5
        assert await asyncio.gather(*(ask(kept) for _ in range(50))) == [await ask(Inner())] * 50
        assert len(inner.paths) == 5

    asyncio.run(run())


def test_who_asks_at_the_same_time_waits_for_one() -> None:
    async def run() -> None:
        inner = Inner()
        kept = Documents(inner)
        await asyncio.gather(*(ask(kept) for _ in range(50)))
        assert inner.paths == ["/"]

    asyncio.run(run())


def test_other_addresses_and_errors_are_not_kept() -> None:
    async def run() -> None:
        for status, path in ((200, "/assets/x.js"), (503, "/")):
            inner = Inner(status)
            kept = Documents(inner)
            for _ in range(3):
                found = await ask(kept, path)
                assert found[0] == status
            assert len(inner.paths) == 3

    asyncio.run(run())


def test_no_more_than_so_many_are_kept() -> None:
    async def run() -> None:
        kept = Documents(Inner())
        for index in range(3 * MAX_KEPT):
            await ask(kept, prefix=f"/{index}")
        assert len(kept._kept.keys()) == MAX_KEPT  # pyright: ignore[reportPrivateUsage]

    asyncio.run(run())


@pytest.mark.parametrize("host", ["a", "a.b-c_d:81", "[2001:db8::1]:443"])
def test_the_length_is_that_of_the_body(host: str) -> None:
    async def run() -> None:
        _, headers, body = await ask(Documents(Inner()), host=host)
        assert headers[b"content-length"] == str(len(body)).encode()

    asyncio.run(run())
