"""POST /v1/generate: images and a prompt in, an answer out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from vlm_dlm_app.answering.drafts import DraftPace
from vlm_dlm_app.answering.generate_run import GenerateRun
from vlm_dlm_app.answering.intake import ask_of
from vlm_dlm_app.answering.modes import mode_options, resolve_mode
from vlm_dlm_app.http.auth import ClientDep
from vlm_dlm_app.http.bodies import FormFields, read_body, request_body
from vlm_dlm_app.routes.replying import replies, reply_of
from vlm_dlm_app.schemas.generate import GenerateBody, GenerateReply
from vlm_dlm_app.state import ServicesDep

router = APIRouter(tags=["generate"])
FIELDS = FormFields(
    texts=frozenset({"prompt", "system", "mode"}),
    flags=frozenset({"stream"}),
    objects=frozenset({"options"}),
)
_REPLIES = replies(GenerateReply, "The whole answer, or with `stream` its pieces")


@router.post("/v1/generate", responses=_REPLIES, openapi_extra=request_body(GenerateBody, FIELDS))
async def generate(request: Request, services: ServicesDep, client: ClientDep) -> Response:
    """Answer a prompt about images, sent as a form with files or as JSON with data URIs.

    With `stream` the events are `started`, `text` (its texts joined are the answer), `draft` (the
    block being written; only with `options.include_drafts`) and `result` (the whole reply).
    """
    received = await read_body(request, GenerateBody, FIELDS)
    body = received.body
    mode = resolve_mode(services, None, body.mode)
    run = GenerateRun(
        services,
        ask_of(services, body, received.files),
        mode,
        mode_options(body.options, mode)[mode],
        client,
        request.state.request_id,
        drafts=DraftPace.of(body.options),
    )
    digest = received.digest
    return await reply_of(run, request, services, client, digest, is_stream=body.stream)
