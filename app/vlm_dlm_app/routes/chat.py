"""POST /v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from vlm_dlm_app.answering.chat_request import chat_ask
from vlm_dlm_app.answering.chat_run import ChatRun
from vlm_dlm_app.http.auth import client_of
from vlm_dlm_app.http.bodies import json_body, read_json, work_on
from vlm_dlm_app.routes.replying import replies, reply_of
from vlm_dlm_app.schemas.chat import ChatCompletion, ChatRequest
from vlm_dlm_app.schemas.naming import naming_default
from vlm_dlm_app.state import services_of

router = APIRouter(tags=["chat"])

_REPLIES = replies(ChatCompletion, "The whole completion, or with `stream` its chunks", 404)


@router.post("/v1/chat/completions", responses=_REPLIES, openapi_extra=json_body(ChatRequest))
@naming_default
async def chat_completions(request: Request) -> Response:
    """Answer the last message of a conversation about images, as OpenAI's API does.

    The mode is chosen by the model's id (`NAME:ar`) or by `generation_mode`; `{default_mode}` where
    neither says so. Answers are greedy unless `temperature` is given. With `n` above 1, further
    answers take the seeds that follow `seed`.
    """
    services, client = await services_of(request), await client_of(request)
    received = await read_json(request, ChatRequest)
    asked = await work_on(request, received, lambda chat: chat_ask(services, chat))
    run = ChatRun(services, asked, client, request.state.request_id)
    is_stream = bool(received.body.stream)
    return await reply_of(run, request, services, client, received.digest, is_stream=is_stream)
