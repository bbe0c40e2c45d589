"""Routes that take JSON and nothing else, and say so when they are sent anything else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.errors import ApiError

JSON = "application/json"


class JsonRoute(APIRoute):
    """Answers 415 to a body of another type, before it is looked at."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            media_type = request.headers.get("content-type", "").partition(";")[0]
            if media_type.strip().lower() != JSON:
                raise ApiError(415, "unsupported_media_type", f"the body must be {JSON}")
            return await handle(request)

        return checked
