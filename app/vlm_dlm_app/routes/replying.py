"""What the routes that write answers have in common: as events or whole, once per Idempotency-Key,
and only as long as the client is there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from fastapi import Request, Response
from pydantic import BaseModel

from vlm_dlm_app.http.disconnect import while_connected
from vlm_dlm_app.http.errors import error_responses
from vlm_dlm_app.http.idempotency import replayed_reply, replayed_stream
from vlm_dlm_app.http.streaming import EventStreamResponse, primed
from vlm_dlm_app.state import Services


class Run(Protocol):
    """One request on its way to its answers, which are asked for in one of two forms."""

    async def whole(self) -> bytes:
        """The reply as JSON. Raises ApiError or VlmDlmError."""
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The reply as events. Raises as `whole` does."""
        ...


def replies(model: type[BaseModel], description: str, *errors: int) -> dict[int | str, Any]:
    """For `responses=` of a route. errors: statuses beside those that each of them has."""
    return {
        200: {
            "model": model,
            "description": f"{description} as server-sent events",
            "content": {"text/event-stream": {}},
        },
        **error_responses(*sorted({400, 401, 403, 408, 413, 415, 429, 500, 503, *errors})),
    }


async def reply_of(
    run: Run,
    request: Request,
    services: Services,
    client: str,
    digest: bytes,
    *,
    is_stream: bool,
    is_good: Callable[[], bool] = lambda: True,
) -> Response:
    """The answers to one request. digest: of its body. is_good: asked at the end, whether the same
    answers are worth giving again. Raises ApiError or VlmDlmError."""
    shared = services.idempotency, request, client, digest
    if is_stream:
        chunks = await replayed_stream(*shared, run.chunks, is_good)
        return EventStreamResponse(await while_connected(request, primed(chunks)))
    reply = replayed_reply(*shared, run.whole, is_good)
    return Response(await while_connected(request, reply), media_type="application/json")
