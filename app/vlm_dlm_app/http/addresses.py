"""The API's addresses: which one is meant by a path, and what to say where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

VERSION = "v1"
HEALTH = "/health/"  # for probes, which know their address
# Longer paths are nobody's slip of the pen, and looking for one is work.
MAX_PATH_CHARS = 200
CLOSE = 0.7
_CHAT = "/v1/chat/completions"
_ASK = f"ask by POST {_CHAT}"
_NONE = f"no embeddings are made here; questions go to POST {_CHAT}"
_LIST = "models are listed by GET /v1/models"
_FILES = f"files are not kept; {_ASK} with pictures in messages as data URIs"
_TOKENS = f"tokens are not listed here; {_ASK}, whose usage counts them"
# Of other APIs: how they begin -> what works here. The longest beginning counts.
ELSEWHERE = {
    "/v1/completions": f"{_ASK} with the prompt as a user message, or by POST /v1/generate",
    "/completions": f"{_ASK} with the prompt as a user message, or by POST /v1/generate",
    "/completion": f"{_ASK} with the prompt as a user message, or by POST /v1/generate",
    "/infill": f"{_ASK}; text is not filled in",
    "/generate_stream": "send POST /v1/generate with stream",
    "/v1/responses": f"{_ASK} with the input as messages",
    "/v1/messages": f"{_ASK}, which takes Anthropic's parts of messages too",
    "/messages": f"{_ASK}, which takes Anthropic's parts of messages too",
    "/v1/complete": _ASK,
    "/v1/chat": _ASK,
    "/chat": _ASK,
    "/v1/embeddings": _NONE,
    "/embedding": _NONE,
    "/embeddings": _NONE,
    "/v1/rerank": f"nothing is ranked here; questions go to POST {_CHAT}",
    "/v1/score": f"nothing is ranked here; questions go to POST {_CHAT}",
    "/v1/images": f"pictures are read, not made; {_ASK} about one",
    "/v1/audio": f"only texts and pictures are read, and texts written; {_ASK}",
    "/v1/realtime": f"{_ASK} with stream",
    "/v1/moderations": f"nothing is moderated here; questions go to POST {_CHAT}",
    "/v1/files": _FILES,
    "/v1/uploads": _FILES,
    "/v1/batches": f"{_ASK} with priority batch",
    "/v1/assistants": f"conversations are not kept; {_ASK} with all of the messages",
    "/v1/threads": f"conversations are not kept; {_ASK} with all of the messages",
    "/v1/conversations": f"conversations are not kept; {_ASK} with all of the messages",
    "/v1/fine_tuning": f"models are not trained by this server; {_LIST}",
    "/api/chat": f"this is not Ollama's API; {_ASK}",
    "/api/generate": f"this is not Ollama's API; {_ASK}, or POST /v1/generate",
    "/api/embed": _NONE,
    "/api/embeddings": _NONE,
    "/api/tags": f"this is not Ollama's API; {_LIST}",
    "/api/show": f"this is not Ollama's API; {_LIST}",
    "/api/ps": f"this is not Ollama's API; {_LIST}",
    "/api/version": "this is not Ollama's API; the version is told by GET /version",
    "/api/v0/models": _LIST,
    "/api/pull": f"the server chooses the model when it starts; {_LIST}",
    "/api": f"this is not Ollama's API; {_ASK}",
    "/tokenize": _TOKENS,
    "/detokenize": _TOKENS,
    "/v1/tokenize": _TOKENS,
    "/props": f"this is not llama.cpp's API; {_LIST}",
    "/slots": "this is not llama.cpp's API; GET /metrics tells what runs and waits",
    "/get_model_info": _LIST,
    "/info": _LIST,
    "/ping": "GET /health tells whether requests are taken",
    "/docs": "GET /openapi.json describes every address",
    "/redoc": "GET /openapi.json describes every address",
}
_ANY = "the API is under /v1, and GET /openapi.json describes every address"


class Addresses:
    """paths: what the routes take; one that ends in a parameter takes all that begins alike."""

    def __init__(self, paths: Iterable[str]) -> None:
        templates = list(paths)
        self.plain = frozenset(path for path in templates if "{" not in path)
        begins = f"/{VERSION}/"
        self._respelled = {p for p in self.plain if p.startswith(begins) and HEALTH not in p}
        self._folders = tuple(path.partition("{")[0] for path in templates if "{" in path)

    def meant(self, path: str) -> str | None:
        """The address under /v1 that a path with slashes too many, or with /v1 missing or doubled,
        stands for; None for one that is an address already or stands for none. All others have one
        spelling: a proxy that keeps one from outside knows no other."""
        if path in self.plain or len(path) > MAX_PATH_CHARS:
            return None
        parts = [part for part in path.split("/") if part]
        while parts[:2] == [VERSION, VERSION]:
            parts = parts[1:]
        found = f"/{'/'.join(parts if parts[:1] == [VERSION] else [VERSION, *parts])}"
        is_address = found in self._respelled or found.startswith(self._folders)
        return found if is_address and found != path else None

    def hint(self, path: str) -> str:
        """What would work in place of a path that is no address."""
        if len(path) > MAX_PATH_CHARS:
            return _ANY
        plain = f"/{'/'.join(part for part in path.split('/') if part)}"
        if plain == "/":
            return f"the page is switched off; {_ANY}"
        begun = [known for known in ELSEWHERE if f"{plain}/".startswith(f"{known}/")]
        if begun:
            return ELSEWHERE[max(begun, key=len)]
        near = get_close_matches(plain, sorted(self.plain), 1, CLOSE)
        return f"the nearest is {near[0]}" if near else _ANY
