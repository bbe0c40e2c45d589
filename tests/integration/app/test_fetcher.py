"""The fetcher over real sockets: what it brings home, and what it makes of odd servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import pytest

from tests.corpus.images import picture
from vlm_dlm.errors import ImageError, ImageTooLargeError, QueueFullError
from vlm_dlm_app.media import fetcher as module
from vlm_dlm_app.media.fetcher import BAD_REPLY, UNREACHABLE, Fetcher, FetchPolicy
from vlm_dlm_app.media.http_get import CHUNKS_AT_ONCE, Head, read_body

PUBLIC = "93.184.215.14"
Reply = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def answers(*addresses: str) -> module.Resolve:
    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return resolve


def raw(status: str, body: bytes = b"", /, **headers: str) -> bytes:
    """An HTTP reply."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


def fixed(reply: bytes) -> Reply:
    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()

    return serve


@dataclass(slots=True)
class Host:
    """Public servers by name, all of them really at one local port. asked: (name, request)."""

    replies: dict[str, Reply]
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)

    async def resolve(self, host: str) -> Sequence[str]:
        self.resolved.append(host)
        return [PUBLIC]

    async def connect(
        self, address: str, port: int, tls_name: str | None
    ) -> tuple[StreamReader, StreamWriter]:
        assert address == PUBLIC
        name = self.resolved[-1]

        async def handle(reader: StreamReader, writer: StreamWriter) -> None:
            try:
                with suppress(OSError, EOFError):
                    self.asked.append((name, await reader.readuntil(b"\r\n\r\n")))
                    await self.replies[name](reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        try:
            local = server.sockets[0].getsockname()
            return await asyncio.open_connection(*local, limit=module.MAX_HEAD_BYTES)
        finally:
            server.close()


def fetch(
    url: str, policy: FetchPolicy | None = None, /, **replies: Reply
) -> tuple[bytes | ImageError, Host]:
    """What comes of it. Names are given with `_` for a dot."""
    host = Host({name.replace("_", "."): reply for name, reply in replies.items()})

    async def run() -> bytes | ImageError:
        made = Fetcher(policy or FetchPolicy(allow_http=True), host.resolve, host.connect)
        try:
            return await made.fetch(url)
        except ImageError as error:
            return error
        finally:
            made.close()

    return asyncio.run(run()), host


def to(location: str, status: str = "302 Found") -> Reply:
    return fixed(raw(status, Location=location))


IMAGE = picture("PNG")
GOOD = fixed(raw("200 OK", IMAGE, Content_Type="image/png", Content_Length=str(len(IMAGE))))


def test_a_picture_comes_home_and_nothing_of_ours_goes_out() -> None:
    found, host = fetch("https://a.example/x.png?y=1#z", a_example=GOOD)
    assert found == IMAGE
    ((name, request),) = host.asked
    assert name == "a.example"
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /x.png?y=1 HTTP/1.1"
    assert lines[1] == "Host: a.example"
    assert {line.partition(":")[0] for line in lines[2:] if line} == {
        *("User-Agent", "Accept", "Accept-Encoding", "Connection")
    }


def test_other_ways_to_frame_a_body() -> None:
    chunked = b"%x;x=1\r\n%b\r\n0\r\n\r\n" % (len(IMAGE), IMAGE)
    for reply in (
        raw("200 OK", IMAGE, Content_Type="image/png"),
        raw("200 OK", chunked, Content_Type="IMAGE/PNG", Transfer_Encoding="chunked"),
        raw("100 Continue") + raw("200 OK", IMAGE, Content_Type="image/png"),
    ):
        assert fetch("http://a.example/", a_example=fixed(reply))[0] == IMAGE


def test_a_body_in_tiny_chunks_does_not_hold_up_the_event_loop() -> None:
    async def run() -> int:
        reader = StreamReader()
        reader.feed_data(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
        head = Head(200, {"transfer-encoding": "chunked"})
        reading = asyncio.create_task(read_body(reader, head, 10_000))
        num_turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            num_turns += 1
        assert await reading == b"x" * 10_000
        return num_turns

    assert asyncio.run(run()) >= 10_000 // CHUNKS_AT_ONCE


def test_redirects_are_followed_three_times_and_checked_each_time() -> None:
    hops = {
        f"{name}_example": to(f"https://{after}.example/") for name, after in ("ab", "bc", "cd")
    }
    found, host = fetch("https://a.example/", d_example=GOOD, **hops)
    assert found == IMAGE
    assert [name for name, _ in host.asked] == [f"{name}.example" for name in "abcd"]
    assert host.resolved == [f"{name}.example" for name in "abcd"]
    found, host = fetch("https://a.example/", **hops, d_example=to("https://a.example/"))
    assert str(found) == "the image URL redirects too often; the limit is 3"
    assert len(host.asked) == 4


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1/", "//127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest"),
        *("file:///etc/hostname", "gopher://a.example/", "javascript:1", "http://a.example\\@b/"),
        *("https://user@a.example/", "https://localhost/", "https://a.example:22/", "\x00", "é"),
        *("https://" + "a" * 4000 + ".example/", "https://2130706433/"),
    ],
)
def test_redirects_into_the_dark_are_not_followed(location: str) -> None:
    found, host = fetch("https://a.example/", a_example=to(location))
    assert isinstance(found, ImageError)
    assert str(found).startswith("the image")
    assert len(host.asked) == 1


def test_a_redirect_never_leaves_https() -> None:
    found, host = fetch("https://a.example/", a_example=to("http://b.example/"), b_example=GOOD)
    assert str(found) == "the image URL redirects from https to http"
    assert len(host.asked) == 1
    assert fetch("http://a.example/", a_example=to("/x"))[1].asked[1][0] == "a.example"


BIG = str(21 * 2**20)


@pytest.mark.parametrize(
    "reply",
    [
        raw("200 OK", Content_Type="image/png", Content_Length=BIG),
        raw("200 OK", bytes(2000), Content_Type="image/png"),
        raw("200 OK", b"800\r\n", Content_Type="image/png", Transfer_Encoding="chunked"),
        raw("200 OK", b"fffffff\r\n", Content_Type="image/png", Transfer_Encoding="chunked"),
    ],
)
def test_what_is_too_large_is_cut_off(reply: bytes) -> None:
    found, _ = fetch("http://a.example/", FetchPolicy(True, max_bytes=1000), a_example=fixed(reply))
    assert isinstance(found, ImageTooLargeError)
    assert str(found) == "the image is over the limit of 1000 bytes (max_image_bytes)"


@pytest.mark.parametrize(
    "reply",
    [
        *(b"", b"\r\n\r\n", b"HTTP/1.1", b"HTTP/2 200 OK\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\1"),
        *(b"HTTP/1.1 2 OK\r\n\r\n", b"HTTP/1.1 200 OK", b"x" * 100_000, b"HTTP/1.1 200 OK\r\nx"),
        raw("404 Not Found", IMAGE, Content_Type="image/png"),
        raw("206 Partial", IMAGE, Content_Type="image/png"),
        raw("200 OK", b"<html>", Content_Type="text/html"),
        raw("200 OK", IMAGE),
        raw("200 OK", IMAGE, Content_Type="image/png", Content_Encoding="gzip"),
        raw("200 OK", IMAGE[:9], Content_Type="image/png", Content_Length=str(len(IMAGE))),
        raw("200 OK", IMAGE, Content_Type="image/png", Content_Length="-1"),
        raw("200 OK", IMAGE, Content_Type="image/png", Content_Length="1e3"),
        raw("200 OK", b"zz\r\n", Content_Type="image/png", Transfer_Encoding="chunked"),
        raw("200 OK", b"2\r\nabX", Content_Type="image/png", Transfer_Encoding="chunked"),
        raw("200 OK", b"", Content_Type="image/png", Transfer_Encoding="gzip, chunked"),
        raw("200 OK", **{f"h{number}": "x" for number in range(200)}),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Type : image/png\r\n\r\nab",
        raw("100 Continue") * 10,
    ],
)
def test_what_is_no_proper_picture_reply_gets_one_sentence(reply: bytes) -> None:
    found, _ = fetch("http://a.example/", a_example=fixed(reply))
    assert str(found) == BAD_REPLY


def test_slow_servers_are_left_in_time() -> None:
    async def trickle(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(raw("200 OK", Content_Type="image/png"))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def silent(reader: StreamReader, writer: StreamWriter) -> None:
        await asyncio.sleep(60)

    policy = FetchPolicy(allow_http=True, total_s=0.3)
    for reply in (trickle, silent):
        began = time.monotonic()
        found, _ = fetch("http://a.example/", policy, a_example=reply)
        assert str(found) == "the image did not arrive in time; the limit is 0.3 s"
        assert time.monotonic() - began < 30


def test_a_request_has_one_time_limit_for_all_its_pictures() -> None:
    async def slowly(*_: object) -> tuple[StreamReader, StreamWriter]:
        await asyncio.sleep(0.2)
        raise OSError

    async def run() -> float:
        made = Fetcher(FetchPolicy(total_s=0.3), answers(PUBLIC), slowly)
        deadline_s = made.new_deadline()
        began_s = time.monotonic()
        for expected in (UNREACHABLE, "in time", "in time"):
            with pytest.raises(ImageError, match=expected):
                await made.fetch("https://a.example/", deadline_s)
        made.close()
        return time.monotonic() - began_s

    assert asyncio.run(run()) < 0.55


def test_places_are_bounded_and_no_client_has_more_than_half() -> None:
    async def run() -> None:
        made = Fetcher(FetchPolicy(max_concurrent=4))
        with ExitStack() as held:
            for client in ("a", "a", "b"):
                held.enter_context(made.place(client))
            with pytest.raises(QueueFullError, match="this client"), made.place("a"):
                pass
            held.enter_context(made.place("c"))
            with pytest.raises(QueueFullError, match="4 requests"), made.place("d"):
                pass
        with made.place("a"), made.place("a"):
            pass
        made.close()

    asyncio.run(run())


def test_connections_that_fail_say_nothing_about_why() -> None:
    async def refuse(*_: object) -> tuple[StreamReader, StreamWriter]:
        raise ssl.SSLCertVerificationError("certificate of 10.0.0.7 in /etc/ssl")

    async def hang(*_: object) -> tuple[StreamReader, StreamWriter]:
        await asyncio.sleep(60)
        raise AssertionError

    async def fails(host: str) -> Sequence[str]:
        raise socket.gaierror(-2, "no such name")

    async def run(resolve: module.Resolve, connect: module.Connect) -> str:
        made = Fetcher(FetchPolicy(connect_s=0.1), resolve, connect)
        with pytest.raises(ImageError) as caught:
            await made.fetch("https://a.example/")
        made.close()
        return str(caught.value)

    public = answers(PUBLIC, "2606:2800:21f:cb07::1")
    for resolve, connect in ((public, refuse), (public, hang), (fails, refuse)):
        assert asyncio.run(run(resolve, connect)) == UNREACHABLE
