"""GET /openapi.json: every address, described. Open without a key."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

MAX_KEPT = 8  # by the path below which a proxy shows the server

router = APIRouter()


class Document:
    """The text of what `describe` gives, made once."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._turn = asyncio.Lock()

    async def text(self, root_path: str) -> bytes:
        """root_path: where the reader finds the server, '' for the root."""
        async with self._turn:
            if root_path not in self._kept:
                self._kept[root_path] = await asyncio.to_thread(self._write, root_path)
            self._kept.move_to_end(root_path)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
            return self._kept[root_path]

    def _write(self, root_path: str) -> bytes:
        document = self._describe()
        if root_path:
            document = {**document, "servers": [{"url": root_path}]}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """As FastAPI's own, which writes it anew each time."""
    document: Document = request.app.state.document
    root_path = request.scope.get("root_path", "").rstrip("/")
    return Response(await document.text(root_path), media_type="application/json")
