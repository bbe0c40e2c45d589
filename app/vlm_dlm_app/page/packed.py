"""The page's own files, packed once for all who take gzip. Gradio packs them anew for everybody, on
the event loop: a third of a second for the largest."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from vlm_dlm_app.page.collecting import Collected, KeptAnswers, collected

PLACES = ("/assets/", "/static/")
THEME = "/theme.css"
KINDS = (".js", ".css", ".svg", ".json", ".html")
MAX_KEPT_BYTES = 16 * 2**20  # packed, all that the package brings takes 6 MB
LEAST_BYTES = 400
MAX_SMALL = 256  # names of files that are smaller
LEVEL = 6
# Of the whole file, which is not sent.
_DROPPED = frozenset({b"content-length", b"accept-ranges", b"vary", b"etag"})


class Packed:
    """`app` is never asked to pack anything."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept = KeptAnswers(MAX_KEPT_BYTES, lambda answer: len(answer.body))
        self._small: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        inner = {**scope, "headers": headers}
        path = scope["path"]
        if path in self._small or not _is_packed_for(scope):
            await self.app(inner, receive, send)
            return
        answer = await self._kept.get(path, lambda: self._pack(inner, receive))
        if answer is not None:
            await answer.send_to(send)

    async def _pack(self, scope: Scope, receive: Receive) -> Collected | None:
        """A file, packed and kept; what is better as it is, as it is."""
        answer, path = await collected(self.app, scope, receive), scope["path"]
        if answer is None or answer.status != 200:
            return answer
        if len(answer.body) < LEAST_BYTES:
            if len(self._small) < MAX_SMALL:
                self._small.add(path)
            return answer
        packed = await asyncio.to_thread(_packed, answer)
        self._kept.keep(path, packed)
        return packed


def _packed(answer: Collected) -> Collected:
    tags = [(b"etag", b"W/" + tag) for name, tag in answer.headers if name.lower() == b"etag"]
    kept = [pair for pair in answer.headers if pair[0].lower() not in _DROPPED]
    body = gzip.compress(answer.body, LEVEL, mtime=0)
    own = [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
    length = [(b"content-length", str(len(body)).encode())]
    return replace(answer, headers=[*kept, *tags, *own, *length], body=body)


def _is_packed_for(scope: Scope) -> bool:
    """Whether the client takes gzip, and the file is one that it makes smaller."""
    path, headers = scope["path"], dict(scope["headers"])
    is_file = path.startswith(PLACES) or path.endswith(THEME)
    if not is_file or not path.endswith(KINDS):
        return False
    accepted = headers.get(b"accept-encoding", b"").decode("latin-1").replace(" ", "").split(",")
    return any(each == "gzip" or each.startswith("gzip;q=1") for each in accepted[:32])
