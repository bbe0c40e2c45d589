"""One GET over an open connection: just enough HTTP/1.1 to receive a picture, all of it bounded.

httpcore would take the same in fewer lines, but bounds neither interim replies nor headers by their
number, and tiny chunks cost it several times as much of the event loop.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass

from vlm_dlm_app.media.url_policy import Target

USER_AGENT = "vlm-dlm-image-fetcher"
MAX_HEADERS = 100
MAX_INTERIM = 4
READ_BYTES = 64 * 1024
CHUNKS_AT_ONCE = 100  # well under a millisecond
# Two of these in one reply would let two readers see two replies.
_ONCE = ("content-length", "content-type", "location", "transfer-encoding", "content-encoding")


class BadReplyError(Exception):
    """The server does not speak HTTP as it should."""


class TooLargeError(Exception):
    """More bytes than are wanted."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers, their names in lower case."""

    status: int
    headers: dict[str, str]


def send_get(writer: StreamWriter, target: Target) -> None:
    """The same request for everyone: no cookies, no referrer, nothing of the client's."""
    lines = (
        f"GET {target.path} HTTP/1.1",
        f"Host: {target.netloc}",
        f"User-Agent: {USER_AGENT}",
        "Accept: image/*",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))


async def read_head(reader: StreamReader) -> Head:
    """The final reply's head. A line longer than the reader's limit is a ValueError."""
    for _ in range(MAX_INTERIM):
        version, _, rest = (await _line(reader)).partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.0", "HTTP/1.1") or not (code.isdigit() and len(code) == 3):
            raise BadReplyError
        head = Head(int(code), await _headers(reader))
        if not 100 <= head.status < 200:
            return head
    raise BadReplyError


async def read_body(reader: StreamReader, head: Head, max_bytes: int) -> bytes:
    """The body, however it is framed. Raises TooLargeError as soon as it is known."""
    encoding = head.headers.get("transfer-encoding")
    length = head.headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked" or length is not None:
            raise BadReplyError
        return await _chunked(reader, max_bytes)
    if length is None:
        return await _until_end(reader, max_bytes)
    if not (length.isdecimal() and length.isascii() and len(length) < 16):
        raise BadReplyError
    if int(length) > max_bytes:
        raise TooLargeError
    return await reader.readexactly(int(length))


async def _line(reader: StreamReader) -> str:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise BadReplyError
    return line.decode("latin-1").rstrip("\r\n")


async def _headers(reader: StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = await _line(reader)
        if not line:
            return headers
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or (name in _ONCE and name in headers):
            raise BadReplyError
        headers[name] = value.strip()
    raise BadReplyError


async def _chunked(reader: StreamReader, max_bytes: int) -> bytes:
    body = bytearray()
    num_chunks = 0
    while True:
        num_chunks += 1
        size = (await _line(reader)).partition(";")[0].strip()
        if not 0 < len(size) <= 8 or not all(char in "0123456789abcdefABCDEF" for char in size):
            raise BadReplyError
        num_bytes = int(size, 16)
        if not num_bytes:
            return bytes(body)
        if len(body) + num_bytes > max_bytes:
            raise TooLargeError
        body += await reader.readexactly(num_bytes)
        if await reader.readexactly(2) != b"\r\n":
            raise BadReplyError
        if num_chunks % CHUNKS_AT_ONCE == 0:  # what has come already is read without a pause
            await asyncio.sleep(0)


async def _until_end(reader: StreamReader, max_bytes: int) -> bytes:
    body = bytearray()
    while piece := await reader.read(READ_BYTES):
        body += piece
        if len(body) > max_bytes:
            raise TooLargeError
    return bytes(body)
