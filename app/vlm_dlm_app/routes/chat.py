"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from vlm_dlm_app.answering.chat_request import chat_ask
from vlm_dlm_app.answering.chat_run import ChatRun
from vlm_dlm_app.http.auth import client_of
from vlm_dlm_app.http.bodies import json_body, read_json, work_on
from vlm_dlm_app.http.disconnect import while_connected
from vlm_dlm_app.http.errors import error_responses
from vlm_dlm_app.http.idempotency import replayed_reply, replayed_stream
from vlm_dlm_app.http.streaming import EventStreamResponse, primed
from vlm_dlm_app.schemas.chat import ChatCompletion, ChatRequest
from vlm_dlm_app.state import services_of

router = APIRouter(tags=["chat"])

_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatCompletion,
        "description": "The whole completion, or with `stream` its chunks as server-sent events",
        "content": {"text/event-stream": {}},
    },
    **error_responses(400, 401, 403, 404, 408, 413, 415, 429, 500, 503),
}


@router.post("/v1/chat/completions", responses=_REPLIES, openapi_extra=json_body(ChatRequest))
async def chat_completions(request: Request) -> Response:
    """Answer the last message of a conversation about images, as OpenAI's API does.

    The mode is chosen by the model's id (`NAME:ar`) or by `generation_mode`; `linear_spec` where
    neither says so. Answers are greedy unless `temperature` is given. With `n` above 1, further
    answers take the seeds that follow `seed`.
    """
    services, client = await services_of(request), await client_of(request)
    received = await read_json(request, ChatRequest)
    chat, digest = received.body, received.digest
    asked = await work_on(request, received, lambda chat: chat_ask(services, chat))
    run = ChatRun(services, asked, client, request.state.request_id)
    if chat.stream:
        chunks = await replayed_stream(services.idempotency, request, client, digest, run.chunks)
        return EventStreamResponse(await while_connected(request, primed(chunks)))
    reply = replayed_reply(services.idempotency, request, client, digest, run.whole)
    return Response(await while_connected(request, reply), media_type="application/json")
