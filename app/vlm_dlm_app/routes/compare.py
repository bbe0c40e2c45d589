"""POST /v1/compare: one prompt in several modes, its image encoded once."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from vlm_dlm_app.answering.compare_run import CompareRun, params_of
from vlm_dlm_app.answering.drafts import DraftPace
from vlm_dlm_app.answering.intake import ask_of
from vlm_dlm_app.http.auth import ClientDep
from vlm_dlm_app.http.bodies import FormFields, read_body, request_body
from vlm_dlm_app.routes.replying import replies, reply_of
from vlm_dlm_app.schemas.compare import CompareBody, CompareReply
from vlm_dlm_app.state import ServicesDep

router = APIRouter(tags=["compare"])
FIELDS = FormFields(
    texts=frozenset({"prompt", "system"}),
    flags=frozenset({"stream", "parallel"}),
    objects=frozenset({"options", "mode_options"}),
    lists=frozenset({"modes"}),
)
_REPLIES = replies(CompareReply, "All answers, or with `stream` their pieces")


@router.post("/v1/compare", responses=_REPLIES, openapi_extra=request_body(CompareBody, FIELDS))
async def compare(request: Request, services: ServicesDep, client: ClientDep) -> Response:
    """Answer one prompt in several modes, one after another, and say how they differ.

    With `stream` every event but the last names its mode: `started`, `text`, `draft` (only with
    `options.include_drafts`), `result`; then comes one `summary`. A mode that fails has a result
    with its `error`; only when all of them fail is the whole reply an error.
    """
    received = await read_body(request, CompareBody, FIELDS)
    body = received.body
    params = params_of(services, body)
    run = CompareRun(
        services,
        ask_of(services, body, received.files),
        params,
        client,
        request.state.request_id,
        is_parallel=body.parallel,
        drafts=DraftPace.of(body.options),
    )
    return await reply_of(
        run,
        request,
        services,
        client,
        received.digest,
        is_stream=body.stream,
        is_good=run.is_whole,
    )
