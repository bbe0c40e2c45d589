"""HTTP to one vLLM server: is it well, is it the right one, and the stream of one answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import httpx

from vlm_dlm.errors import EngineError, UnavailableError
from vlm_dlm.processor.tokenizer import SpecialIds, Tokenizer
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import SOON_S
from vlm_dlm.serving.vllm.messages import UNREADABLE, Chunk, body_of, parse_chunk

logger = logging.getLogger(__name__)
CONNECT_S, ASK_S = 5.0, 60.0
MAX_EVENT_BYTES = 2**20
GENERATE, TOKENIZE = "/inference/v1/generate", "/tokenize"
PROBE_TEXT = "How many <red> objects, 12 or 3?\n\nÄ 文"
STOPPED = "vLLM stopped while this request was running"
REFUSED = "vLLM refused this request; the server's log says why"
BUSY = "vLLM takes no request at the moment"
_TIMEOUT = httpx.Timeout(ASK_S, connect=CONNECT_S)
# An answer may begin late, as vLLM has a queue of its own; a request's deadline is kept elsewhere.
_STREAM_TIMEOUT = httpx.Timeout(None, connect=CONNECT_S, write=ASK_S)


class VllmClient:
    """url: of the server, socket: its Unix socket in place of a network. key: to be sent to it.
    model: by which name it serves; None takes its first."""

    def __init__(
        self,
        url: str,
        *,
        socket: str | None = None,
        key: str | None = None,
        model: str | None = None,
    ) -> None:
        transport = httpx.AsyncHTTPTransport(
            uds=socket, limits=httpx.Limits(max_connections=None, max_keepalive_connections=20)
        )
        self.model = model or ""
        self.max_context: int | None = None
        self._wanted = model
        self._http = httpx.AsyncClient(
            base_url=url,
            transport=transport,
            timeout=_TIMEOUT,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            trust_env=False,  # no proxy learns of images and answers
        )

    async def close(self) -> None:
        """Streams that are open break."""
        await self._http.aclose()

    async def ailment(self, limit_s: float) -> str | None:
        """Why it takes no requests, as a sentence without a full stop; None if it does."""
        try:
            answer = await self._http.get("/health", timeout=limit_s)
        except httpx.HTTPError:
            return "vLLM does not answer"
        return None if answer.is_success else f"vLLM answers with {answer.status_code}"

    async def mismatch(self, tokenizer: Tokenizer) -> str | None:
        """Why it cannot stand in for our own engine, likewise. To be asked once it is well."""
        try:
            return (
                await self._other_model()
                or await self._other_tokenizer(tokenizer)
                or await self._no_generation(tokenizer)
            )
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            return "what answers is not vLLM"

    async def stream(self, content: bytes) -> AsyncGenerator[Chunk | None]:
        """content: from `encoded_body`. None once it has taken the request, then the chunks of its
        answer. Closing aborts it.

        Raises, before the None, UnavailableError where it takes nothing and EngineError where it
        refuses; after it EngineError where the answer breaks off.
        """
        has_begun = False
        try:
            async with self._http.stream(
                "POST", GENERATE, content=content, headers=_JSON, timeout=_STREAM_TIMEOUT
            ) as reply:
                del content  # pictures, which are on their way
                if reply.status_code != 200:
                    raise _refusal(reply.status_code, await reply.aread())
                has_begun = True
                yield None
                async with aclosing(_events(reply)) as events:
                    async for data in events:
                        if data == "[DONE]":
                            return
                        yield parse_chunk(data)
            raise EngineError(STOPPED)
        except (httpx.HTTPError, RuntimeError) as error:  # the latter: closed meanwhile
            logger.warning("a connection to vLLM broke: %s", type(error).__name__)
            if has_begun:
                raise EngineError(STOPPED) from None
            raise UnavailableError("vLLM does not answer", SOON_S) from None

    async def _other_model(self) -> str | None:
        answer = await self._http.get("/v1/models")
        if answer.status_code in (401, 403):
            return "vLLM wants another key; set VLM_DLM_VLLM_API_KEY"
        answer.raise_for_status()
        models = {entry["id"]: entry for entry in answer.json()["data"]}
        name = next(iter(models)) if self._wanted is None else self._wanted
        if name not in models:
            return f"vLLM does not serve {name}"
        self.model, self.max_context = name, models[name].get("max_model_len")
        return None

    async def _other_tokenizer(self, tokenizer: Tokenizer) -> str | None:
        """Weights cannot be looked at from here; another tokenizer gives most other models away."""
        asked = {"model": self.model, "prompt": PROBE_TEXT, "add_special_tokens": False}
        answer = await self._http.post(TOKENIZE, json=asked)
        answer.raise_for_status()
        if answer.json()["tokens"] != tokenizer.encode_text(PROBE_TEXT):
            return "vLLM serves another model: its tokenizer gives other ids"
        return None

    async def _no_generation(self, tokenizer: Tokenizer) -> str | None:
        asked = {
            "model": self.model,
            "token_ids": tokenizer.encode_text(PROBE_TEXT),
            "sampling_params": {"max_tokens": 1, "temperature": 0.0},
        }
        answer = await self._http.post(GENERATE, json=asked)
        if answer.status_code == 403:
            return "vLLM must be started with --enable-scale-out"
        if answer.status_code in (404, 405):
            return f"vLLM has no {GENERATE}: this version of vLLM cannot be used"
        answer.raise_for_status()
        token_ids = answer.json()["choices"][0]["token_ids"]
        return None if len(token_ids) == 1 else "what answers is not vLLM"


_JSON = {"Content-Type": "application/json"}


async def encoded_body(request: GenerationRequest, special: SpecialIds, model: str) -> bytes:
    """What `stream` sends. Raises what `body_of` raises."""

    def encoded() -> bytes:
        return json.dumps(body_of(request, special, model), separators=(",", ":")).encode("ascii")

    return await asyncio.to_thread(encoded) if request.prompt.images else encoded()


async def _events(reply: httpx.Response) -> AsyncGenerator[str]:
    """The data of every server-sent event. Raises EngineError for what is no such stream."""
    buffer = b""
    async for piece in reply.aiter_raw():
        buffer += piece
        *events, buffer = buffer.replace(b"\r\n", b"\n").split(b"\n\n")
        if len(buffer) > MAX_EVENT_BYTES:
            raise EngineError(UNREADABLE)
        for event in events:
            for line in event.split(b"\n"):
                if line.startswith(b"data:"):
                    yield line[5:].strip().decode("utf-8", "replace")


def _refusal(status: int, content: bytes) -> EngineError | UnavailableError:
    """Its words go to the log: they may hold what is not a client's business."""
    try:
        found = cast("dict[str, Any]", json.loads(content))
        words = str(found["error"]["message"])
    except (ValueError, KeyError, TypeError):
        words = content[:200].decode("utf-8", "replace")
    logger.warning("vLLM refused a request with %d: %s", status, " ".join(words.split())[:500])
    if status in (429, 503):
        return UnavailableError(BUSY, SOON_S)
    return EngineError(REFUSED)
