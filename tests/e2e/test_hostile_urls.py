"""URLs that mean harm, sent to a real server that fetches images: nobody on this machine hears."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import suppress

import httpx
import pytest

from tests.e2e.server import Server
from tests.unit.app.hostile_urls import HOSTILE_URLS

ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1")
REFUSALS = {"bad_image", "bad_input", "unsupported_image", "image_too_large"}


@pytest.fixture(scope="module")
def sinks() -> Generator[list[socket.socket]]:
    """Sockets that listen on one port and never accept: who connects waits in line and is seen."""
    opened: list[socket.socket] = []
    port = 0
    for address in ADDRESSES:
        with suppress(OSError):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sink = socket.create_server((address, port), family=family)
            sink.setblocking(False)
            port = sink.getsockname()[1]
            opened.append(sink)
    yield opened
    for sink in opened:
        sink.close()


@pytest.fixture(scope="module")
def client() -> Generator[httpx.Client]:
    with (
        Server(engine="scripted", allow_image_urls=True, allow_http_urls=True) as server,
        httpx.Client(base_url=server.base_url, timeout=30, trust_env=False) as made,
    ):
        yield made


def was_called(sink: socket.socket) -> bool:
    try:
        connection, _ = sink.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True


def chat(client: httpx.Client, url: str) -> httpx.Response:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"messages": [{"role": "user", "content": content}]}
    return client.post("/v1/chat/completions", json=body)


def generate(client: httpx.Client, url: str) -> httpx.Response:
    return client.post("/v1/generate", json={"prompt": "?", "images": [url]})


def compare(client: httpx.Client, url: str) -> httpx.Response:
    return client.post("/v1/compare", json={"prompt": "?", "images": [url]})


@pytest.mark.parametrize("route", [chat, generate, compare])
def test_every_hostile_url_is_refused_and_nobody_is_called(
    client: httpx.Client, sinks: list[socket.socket], route: object
) -> None:
    assert len(sinks) >= 2
    port = str(sinks[0].getsockname()[1])
    faults: list[str] = []
    for hostile in HOSTILE_URLS:
        url = hostile.replace("{port}", port)
        reply = route(client, url)  # type: ignore[operator]
        error = reply.json()["error"]
        if reply.status_code not in (400, 413, 415) or error["code"] not in REFUSALS:
            faults.append(f"{url!r}: {reply.status_code} {reply.text}")
        if "127." in error["message"] or "169." in error["message"]:
            faults.append(f"{url!r} is repeated: {error['message']}")
    assert faults == []
    assert len(HOSTILE_URLS) >= 60
    assert not any(map(was_called, sinks))


def test_the_sinks_would_notice(sinks: list[socket.socket]) -> None:
    for sink in sinks:
        socket.create_connection(sink.getsockname()[:2], timeout=5).close()
        assert was_called(sink)
        assert not was_called(sink)
