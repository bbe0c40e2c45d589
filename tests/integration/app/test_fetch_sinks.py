"""What must never hear from the fetcher: servers on every address of this machine."""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.unit.app.hostile_urls import HOSTILE_NAMES, HOSTILE_URLS
from vlm_dlm.errors import ImageError
from vlm_dlm_app.media.fetcher import UNREACHABLE, Fetcher, FetchPolicy, Resolve

PUBLIC = "93.184.215.14"


@dataclass(slots=True)
class Sink:
    """A server on every address of this machine that can be had, on one port."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)


def local_addresses() -> list[str]:
    """Loopback and whatever else this machine answers to."""
    found = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((PUBLIC, 9))  # sends nothing; tells the address it would send from
        found.append(probe.getsockname()[0])
    with suppress(OSError):
        infos = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        found += [str(info[4][0]) for info in infos]
    return list(dict.fromkeys(found))


@asynccontextmanager
async def sink_servers() -> AsyncGenerator[Sink]:
    sink = Sink()

    async def hear(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError):
            sink.heard.append(await reader.read(1000))
        writer.close()

    servers: list[asyncio.Server] = []
    for address in local_addresses():
        with suppress(OSError):
            server = await asyncio.start_server(hear, address, sink.port)
            sink.port = server.sockets[0].getsockname()[1]
            sink.addresses.append(address)
            servers.append(server)
    try:
        yield sink
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()


def lenient(port: int) -> FetchPolicy:
    """Everything that can be allowed is allowed, so that only the address decides."""
    return FetchPolicy(allow_http=True, ports=(80, 443, port), connect_s=2.0, total_s=5.0)


def answers(*addresses: str) -> Resolve:
    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return resolve


def test_hostile_urls_and_names_reach_nobody() -> None:
    """With the real resolver and real connections, and a name server that lies."""

    async def run() -> tuple[int, list[bytes], list[str]]:
        async with sink_servers() as sink:
            urls = [url.replace("{port}", str(sink.port)) for url in HOSTILE_URLS]
            fetcher = Fetcher(lenient(sink.port))
            num_refused = 0
            for url in urls:
                with pytest.raises(ImageError):
                    await fetcher.fetch(url)
                num_refused += 1
            for name, addresses in HOSTILE_NAMES.items():
                liar = Fetcher(lenient(sink.port), resolve=answers(*addresses))
                with pytest.raises(ImageError, match=UNREACHABLE):
                    await liar.fetch(f"http://{name}:{sink.port}/")
                liar.close()
            fetcher.close()
            await asyncio.sleep(0.05)
            return num_refused, sink.heard, sink.addresses

    num_refused, heard, addresses = asyncio.run(run())
    assert num_refused >= 60
    assert heard == []
    assert {"127.0.0.1", "127.0.0.2"} <= set(addresses)


def test_the_sink_would_hear() -> None:
    """The test above can fail."""

    async def run() -> list[bytes]:
        async with sink_servers() as sink:
            for address in sink.addresses:
                _, writer = await asyncio.open_connection(address, sink.port)
                writer.write(b"x")
                await writer.drain()
                writer.close()
            await asyncio.sleep(0.1)
            assert len(sink.heard) == len(sink.addresses)
            return sink.heard

    assert b"x" in asyncio.run(run())


def test_a_name_is_resolved_once_per_hop_so_that_its_answer_cannot_change() -> None:
    """The first answer is public, every later one is this machine."""
    asked: list[str] = []
    connected: list[str] = []

    async def resolve(host: str) -> Sequence[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    async def connect(
        address: str, port: int, tls_name: str | None
    ) -> tuple[StreamReader, StreamWriter]:
        connected.append(address)
        raise OSError

    async def run() -> None:
        made = Fetcher(None, resolve, connect)
        for _ in range(2):
            with pytest.raises(ImageError, match=UNREACHABLE):
                await made.fetch("https://rebinding.example/")
        made.close()

    asyncio.run(run())
    assert asked == ["rebinding.example"] * 2
    assert connected == [PUBLIC]


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[bytes]:
        async with sink_servers() as sink:
            for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{sink.port}")
            made = Fetcher(FetchPolicy(True, connect_s=0.2), answers("192.0.2.1"))
            with pytest.raises(ImageError):
                await made.fetch("http://a.example/")
            made.close()
            return sink.heard

    assert asyncio.run(run()) == []
