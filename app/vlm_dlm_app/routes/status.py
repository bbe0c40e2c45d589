"""How the server is doing: alive, ready, its metrics and version. Open without a key."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from vlm_dlm import __version__
from vlm_dlm.errors import UnavailableError
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm_app.http.errors import ApiError, ErrorDetail, error_body, error_responses
from vlm_dlm_app.state import Services, ServicesDep
from vlm_dlm_app.telemetry.metrics import CONTENT_TYPE

router = APIRouter(tags=["status"])
Status = Literal["loading", "warming", "ready", "stalled", "draining", "down", "closed"]


class LiveReply(BaseModel):
    """The server answers; it may still be loading."""

    status: Literal["live"] = "live"


class ReadyReply(BaseModel):
    """Whether requests are taken.

    progress: 0 to 1 within loading or warming.
    reason: why it is not ready, '' if there is nothing to say.
    num_restarts: of the engine after it was lost.
    error: set while it is not ready.
    """

    status: Status
    progress: float
    reason: str
    num_restarts: int
    num_running: int
    num_waiting: int
    error: ErrorDetail | None = None


class VersionReply(BaseModel):
    """Version of the server, and the model it serves."""

    version: str
    model: str


def readiness(services: Services) -> ReadyReply:
    """How far the server is, without its error."""
    state, service = services.engine.state, services.service
    is_draining = services.lifecycle.is_draining and state.phase is not Phase.CLOSED
    why = "" if state.phase is Phase.READY else state.reason  # ready has that of its last loss
    return ReadyReply(
        status="draining" if is_draining else state.phase.value,
        progress=state.progress,
        reason="the server is shutting down" if is_draining else why,
        num_restarts=state.num_restarts,
        num_running=service.num_running,
        num_waiting=service.num_waiting,
    )


async def _ready(services: ServicesDep) -> Response:
    reply = readiness(services)
    if reply.status == "ready":
        return JSONResponse(reply.model_dump())
    message = f"the server is {reply.status}" + (f": {reply.reason}" if reply.reason else "")
    error = ApiError(UnavailableError.code, message, retry_after_s=services.retry_after_s)
    body = {**reply.model_dump(), **error_body(error)}
    return JSONResponse(body, error.status, error.headers)


async def _live() -> LiveReply:
    return LiveReply()


async def _metrics(services: ServicesDep) -> Response:
    return Response(await services.metrics.text.get(), media_type=CONTENT_TYPE)


async def _version(services: ServicesDep) -> VersionReply:
    return VersionReply(version=__version__, model=services.settings.model_name)


_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": ReadyReply, "description": "Not ready; `error` says why"}
}
for _path in ("/health", "/health/ready", "/v1/health/ready"):
    router.get(
        _path,
        summary="Whether requests are taken",
        operation_id=f"ready{_path.replace('/', '_')}",
        response_model=ReadyReply,
        responses=_NOT_READY,
    )(_ready)
for _path in ("/health/live", "/v1/health/live"):
    router.get(
        _path, summary="Whether the server answers", operation_id=f"live{_path.replace('/', '_')}"
    )(_live)
router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **error_responses(401)},
)(_metrics)
router.get("/version", summary="Version and model")(_version)
