"""The one place that fetches a URL which a client sent.

A name is resolved once per hop, every address it has must be public, and the connection goes to
one of those very addresses, with the name for SNI and Host. Redirects start over with all checks.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from vlm_dlm.errors import ImageError, ImageTooLargeError, QueueFullError
from vlm_dlm.shares import Shares
from vlm_dlm_app.media.http_get import (
    BadReplyError,
    Head,
    TooLargeError,
    read_body,
    read_head,
    send_get,
)
from vlm_dlm_app.media.url_policy import Target, follow, is_public, parse_url

REDIRECTS = (301, 302, 303, 307, 308)
MAX_ADDRESSES = 4
MAX_HEAD_BYTES = 16 * 1024
# One sentence for no such name, a private address and no answer: it tells nothing of our network.
UNREACHABLE = "the image's host has no public address or does not answer"
BAD_REPLY = "the image's host did not answer with an image"

# host -> its addresses
Resolve = Callable[[str], Awaitable[Sequence[str]]]
# address, port, and the name for TLS (None for plain http) -> an open connection
Connect = Callable[[str, int, str | None], Awaitable[tuple[StreamReader, StreamWriter]]]


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched.

    ports: None for the scheme's own.
    connect_s, total_s: seconds by the clock, the latter for all pictures of a request, with all
        their hops.
    max_concurrent: requests, half of them one client's.
    """

    allow_http: bool = False
    ports: tuple[int, ...] | None = None
    max_bytes: int = 20 * 2**20
    max_redirects: int = 3
    connect_s: float = 5.0
    total_s: float = 15.0
    max_concurrent: int = 8

    @property
    def schemes(self) -> tuple[str, ...]:
        return ("https", "http") if self.allow_http else ("https",)


class Fetcher:
    """Fetches pictures. resolve and connect: stand-ins for the network, for tests."""

    def __init__(
        self,
        policy: FetchPolicy | None = None,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
    ) -> None:
        self.policy = policy or FetchPolicy()
        # threads of their own: slow name servers must not hold up others' work
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="resolve")
        self._resolve = resolve or self._look_up
        self._connect = connect or _connector()
        self._places = Shares(self.policy.max_concurrent)

    @contextmanager
    def place(self, client: str) -> Generator[None]:
        """One request's right to fetch, one picture after another. Raises QueueFullError."""
        places = self._places
        if places.is_full():
            raise QueueFullError(
                f"images of {places.limit} requests are being fetched, which is the limit"
            )
        if places.is_over(client):
            raise QueueFullError(
                f"images of {places.limit_each} requests of this client are being fetched, which "
                "is the limit for one"
            )
        with places.taken(client):
            yield

    def new_deadline(self) -> float:
        """For the pictures of a request that begins now, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self.policy.total_s

    async def fetch(self, url: str, deadline_s: float | None = None) -> bytes:
        """The picture behind `url`, undecoded. Every failure is an ImageError with a fixed text.

        deadline_s: None for one of its own. How many do this at once is for `place` to bound.
        """
        target = self._parse(url)
        ends_s = self.new_deadline() if deadline_s is None else deadline_s
        try:
            async with asyncio.timeout_at(ends_s):
                return await self._follow(target)
        except TimeoutError:
            limit = f"{self.policy.total_s:g} s"
            raise ImageError(f"the image did not arrive in time; the limit is {limit}") from None

    def close(self) -> None:
        """Take nothing new."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _parse(self, url: str) -> Target:
        return parse_url(url, self.policy.schemes, self.policy.ports)

    async def _follow(self, target: Target) -> bytes:
        for _ in range(self.policy.max_redirects + 1):
            found = await self._hop(target)
            if isinstance(found, bytes):
                return found
            following = self._parse(found)
            if target.scheme == "https" and following.scheme != "https":
                raise ImageError("the image URL redirects from https to http")
            target = following
        raise ImageError(
            f"the image URL redirects too often; the limit is {self.policy.max_redirects}"
        )

    async def _hop(self, target: Target) -> bytes | str:
        """The body, or the URL to go on with."""
        reader, writer = await self._reach(target)
        try:
            send_get(writer, target)
            head = await read_head(reader)
            if head.status in REDIRECTS:
                return follow(target, head.headers.get("location", ""))
            _check_head(head)
            body = await read_body(reader, head, self.policy.max_bytes)
        except TooLargeError:
            limit = self.policy.max_bytes
            raise ImageTooLargeError(
                f"the image is over the limit of {limit} bytes (max_image_bytes)"
            ) from None
        # OSError: the connection; ValueError: a line over the limit; EOFError: cut short
        except (BadReplyError, OSError, ValueError, EOFError):
            raise ImageError(BAD_REPLY) from None
        finally:
            await _drop(writer)
        if not body:
            raise ImageError("the image is empty")
        return body

    async def _reach(self, target: Target) -> tuple[StreamReader, StreamWriter]:
        """A connection to an address that was checked. Raises ImageError."""
        tls_name = target.host if target.scheme == "https" else None
        for address in (await self._addresses(target.host))[:MAX_ADDRESSES]:
            with suppress(OSError):  # also a timeout and a bad certificate; the next one may answer
                async with asyncio.timeout(self.policy.connect_s):
                    return await self._connect(address, target.port, tls_name)
        raise ImageError(UNREACHABLE)

    async def _addresses(self, host: str) -> Sequence[str]:
        """All addresses of `host`, every one of them public. Raises ImageError."""
        if _is_address(host):
            addresses: Sequence[str] = [host]
        else:
            try:
                addresses = await self._resolve(host)
            except (OSError, UnicodeError):
                addresses = []
        if not addresses or not all(map(is_public, addresses)):
            raise ImageError(UNREACHABLE)
        return addresses

    async def _look_up(self, host: str) -> Sequence[str]:
        infos = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(info[4][0]) for info in infos))


def _check_head(head: Head) -> None:
    is_image = head.headers.get("content-type", "").lower().startswith("image/")
    is_plain = head.headers.get("content-encoding", "identity").lower() == "identity"
    if head.status != 200 or not is_image or not is_plain:
        raise BadReplyError


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _connector() -> Connect:
    tls = ssl.create_default_context()  # reads all known authorities, so once and not per picture

    async def connect(
        address: str, port: int, tls_name: str | None
    ) -> tuple[StreamReader, StreamWriter]:
        """`address` is numeric, so nothing is resolved again."""
        if tls_name is None:
            return await asyncio.open_connection(address, port, limit=MAX_HEAD_BYTES)
        return await asyncio.open_connection(
            address, port, limit=MAX_HEAD_BYTES, ssl=tls, server_hostname=tls_name
        )

    return connect


async def _drop(writer: StreamWriter) -> None:
    """Close without waiting for the other side."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
