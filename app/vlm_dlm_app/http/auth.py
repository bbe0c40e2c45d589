"""Who is asking: keys, compared in constant time, and a name per client for fair turns."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.networks import network_of

# Answered without a key: what tells nothing but that the server is there.
OPEN_PATHS = frozenset(
    {
        "/health",
        "/health/live",
        "/health/ready",
        "/v1/health/live",
        "/v1/health/ready",
        "/version",
        "/openapi.json",
    }
)
METRICS_PATH = "/metrics"
REALM = "vlm-dlm: any user, an API key as the password"


class Clients:
    """Names clients, and refuses those without a key where keys are asked for.

    is_page_path: whether a browser asks there.
    """

    def __init__(
        self,
        keys: Sequence[str],
        protect_metrics: bool = False,
        is_page_path: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._is_page_path = is_page_path
        self._digests = [_digest(key) for key in keys]
        self._open = OPEN_PATHS if protect_metrics else OPEN_PATHS | {METRICS_PATH}

    def name(self, scope: Scope) -> str:
        """A name that is the same for every request of one client, and holds no key.

        Raises ApiError (401) unless the path is open or the key is one of ours.
        """
        if not self._digests:
            return _address(scope)
        key = _key(Headers(scope=scope))
        digest = None if key is None else _digest(key)
        if digest is not None and self._is_known(digest):
            return f"key-{digest.hex()[:16]}"
        if scope["path"] in self._open:
            return _address(scope)
        raise _unknown(key, self._is_page_path(scope["path"]))

    def _is_known(self, digest: bytes) -> bool:
        """Always compares with every key, so that time tells nothing."""
        return sum([hmac.compare_digest(digest, own) for own in self._digests]) > 0


def client_hash(client: str) -> str:
    """A short mark for a client in the log, in place of its address."""
    return hashlib.sha256(client.encode("utf-8", "replace")).hexdigest()[:8]


async def client_of(request: Request) -> str:
    """The client's name, as the middleware found it. Raises ApiError (401) if it found none."""
    name = request.scope.get("state", {}).get("client")
    if name is None:
        raise ApiError("invalid_api_key", "no API key was given")
    return name


ClientDep = Annotated[str, Depends(client_of)]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _unknown(key: str | None, is_page: bool) -> ApiError:
    """For the page, a browser asks for the key itself and sends it from then on."""
    message = "no API key was given" if key is None else "the API key is not known here"
    message += "; send it as Authorization: Bearer KEY"
    challenge = f'Basic realm="{REALM}", charset="UTF-8"' if is_page else "Bearer"
    return ApiError("invalid_api_key", message, challenge=challenge)


def _key(headers: Headers) -> str | None:
    """The key, sent as a bearer token or, by browsers, as the password of any user."""
    values = headers.getlist("authorization")
    if len(values) != 1:
        return None
    scheme, _, value = values[0].partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() == "basic":
        return _password(value.strip())
    return None


def _password(credentials: str) -> str | None:
    try:
        pair = b64decode(credentials, validate=True).decode("utf-8")
    except ValueError:
        return None
    return pair.partition(":")[2] or None


def _address(scope: Scope) -> str:
    return network_of(scope["client"][0]) if scope.get("client") else "unknown"
