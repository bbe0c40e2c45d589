"""The addresses about uploaded pictures: they come in, are shown, and go; none is Gradio's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, BinaryIO

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vlm_dlm_app.http import multipart
from vlm_dlm_app.http.auth import client_of
from vlm_dlm_app.http.bodies import read_json
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.parsing import BodyWorker
from vlm_dlm_app.page.boundary import found_in
from vlm_dlm_app.page.handlers import (
    FILE_PREFIX,
    FREE_PATH,
    MAX_PATH_CHARS,
    PROGRESS_PATH,
    UPLOAD_PATH,
)
from vlm_dlm_app.page.uploads import Uploads

FIELD = "files"
MAX_FREED = 64
# A body is here in full before any handler sees it, so there is nothing to follow.
PIECE_BYTES = 2**16  # of a picture that is shown, in memory at a time
_DONE = b'data: {"msg": "done"}\n\n'


class FreeBody(BaseModel):
    """paths: as they were given when the pictures came in."""

    model_config = ConfigDict(extra="forbid")

    paths: Annotated[
        list[Annotated[str, Field(max_length=MAX_PATH_CHARS)]], Field(max_length=MAX_FREED)
    ]


class UploadRoutes:
    """Answers over one account of pictures."""

    def __init__(self, uploads: Uploads, worker: BodyWorker) -> None:
        self._uploads = uploads
        self._worker = worker

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(UPLOAD_PATH, self.upload, methods=["POST"]),
            Route(PROGRESS_PATH, self.progress, methods=["GET"]),
            Route(FILE_PREFIX + "{path_or_url:path}", self.show, methods=["GET"]),
            Route(FREE_PATH, self.free, methods=["POST"]),
        )

    async def upload(self, request: Request) -> Response:
        """The paths of the pictures in a form, as JSON; names of files are not read."""
        content_type = request.headers.get("content-type", "")
        if not content_type.lower().startswith(multipart.MEDIA_TYPE):
            message = f"the body must be {multipart.MEDIA_TYPE}"
            raise ApiError("unsupported_media_type", message)
        limit = self._uploads.limits.max_file_bytes
        shape = multipart.FormShape(
            files=frozenset({FIELD}),
            texts=frozenset(),
            repeatable=frozenset({FIELD}),
            max_file_bytes=limit,
            max_text_bytes=0,
        )
        client = await client_of(request)
        body = await request.body()
        form = await self._worker.run(
            client, len(body), lambda: multipart.parse_form(content_type, body, shape)
        )
        pictures = form.files.get(FIELD, [])
        if not pictures:
            raise ApiError("invalid_value", f"{FIELD} holds no picture", FIELD)
        return JSONResponse(await self._uploads.add(client, pictures))

    async def progress(self, request: Request) -> Response:
        """Over as soon as it is asked."""
        return Response(_DONE, media_type="text/event-stream")

    async def show(self, request: Request) -> Response:
        """A picture, to whoever knows its path."""
        path = found_in(request.scope).places["path_or_url"]
        upload, file = self._uploads.opened(path)
        headers = {
            "Content-Disposition": f'inline; filename="picture.{upload.kind.ending}"',
            "Content-Length": str(upload.num_bytes),
        }
        return StreamingResponse(_pieces(file), media_type=upload.kind.media_type, headers=headers)

    async def free(self, request: Request) -> Response:
        """The page is done with these pictures, or goes away."""
        body = (await read_json(request, FreeBody)).body
        self._uploads.free(body.paths)
        return Response(status_code=204)


async def _pieces(file: BinaryIO) -> AsyncGenerator[bytes]:
    """The next one is read when the last has gone, so that slow readers take no memory."""
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
