"""The page's own files, packed once for all who take gzip. Gradio packs them anew for everybody, on
the event loop: a third of a second for the largest."""

from __future__ import annotations

import asyncio
import gzip
from collections import OrderedDict
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLACES = ("/assets/", "/static/")
THEME = "/theme.css"
KINDS = (".js", ".css", ".svg", ".json", ".html")
MAX_KEPT_BYTES = 16 * 2**20  # packed, all that the package brings takes 6 MB
LEAST_BYTES = 400
LEVEL = 6
_CHUNK_BYTES = 65536
# Of the whole file, which is not sent.
_DROPPED = frozenset({b"content-length", b"accept-ranges", b"vary", b"etag"})


@dataclass(frozen=True, slots=True)
class PackedFile:
    """headers: of an answer with `body`."""

    headers: list[tuple[bytes, bytes]]
    body: bytes


class Packed:
    """`app` is never asked to pack anything."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept: OrderedDict[str, PackedFile] = OrderedDict()
        self._packing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        inner = {**scope, "headers": headers}
        if not _is_packed_for(scope):
            await self.app(inner, receive, send)
            return
        path = scope["path"]
        packed = self._kept.get(path)
        if packed is None:
            async with self._packing:
                packed = self._kept.get(path) or await self._pack(inner, receive, send)
        if packed is not None:
            self._kept.move_to_end(path)
            await _send(packed, send)

    async def _pack(self, scope: Scope, receive: Receive, send: Send) -> PackedFile | None:
        """None for what is better as it is; it has been handed on."""
        collected: list[Message] = []

        async def collect(message: Message) -> None:
            collected.append(message)

        await self.app(scope, receive, collect)
        body = b"".join(message.get("body", b"") for message in collected[1:])
        if not collected or collected[0]["status"] != 200 or len(body) < LEAST_BYTES:
            for message in collected:
                await send(message)
            return None
        given = collected[0]["headers"]
        tags = [(b"etag", b"W/" + value) for name, value in given if name.lower() == b"etag"]
        kept = [pair for pair in given if pair[0].lower() not in _DROPPED]
        short = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
        own = [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        length = [(b"content-length", str(len(short)).encode())]
        packed = PackedFile([*kept, *tags, *own, *length], short)
        self._keep(scope["path"], packed)
        return packed

    def _keep(self, path: str, packed: PackedFile) -> None:
        self._kept[path] = packed
        while sum(len(each.body) for each in self._kept.values()) > MAX_KEPT_BYTES:
            self._kept.popitem(last=False)


def _is_packed_for(scope: Scope) -> bool:
    """Whether the client takes gzip, and the file is one that it makes smaller."""
    path, headers = scope["path"], dict(scope["headers"])
    is_file = path.startswith(PLACES) or path.endswith(THEME)
    if not is_file or not path.endswith(KINDS):
        return False
    accepted = headers.get(b"accept-encoding", b"").decode("latin-1").replace(" ", "").split(",")
    return any(each == "gzip" or each.startswith("gzip;q=1") for each in accepted[:32])


async def _send(packed: PackedFile, send: Send) -> None:
    """In pieces, each once the one before has left: a slow reader takes no memory."""
    await send({"type": "http.response.start", "status": 200, "headers": packed.headers})
    body = memoryview(packed.body)
    for start in range(0, len(body), _CHUNK_BYTES):
        piece = bytes(body[start : start + _CHUNK_BYTES])
        is_last = start + _CHUNK_BYTES >= len(body)
        await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
