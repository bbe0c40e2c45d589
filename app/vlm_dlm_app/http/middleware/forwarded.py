"""Behind a proxy: who asks, under which host, by which scheme, and below which path.

From here on a request looks as it did to the outermost proxy that is believed, but for the path,
which is the server's own. What anybody else says of that is taken off, for the packages further in
would believe it; so are cookies.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from vlm_dlm_app.http.proxies import FORWARDED_NAMES, Forwarded, TrustedProxies

# Nothing here has cookies, but the framework reads them for each route, which with Python before
# 3.11.10 takes seconds for some (CVE-2024-7592).
_TAKEN_OFF = FORWARDED_NAMES | {b"cookie"}


class Prefix:
    """Leaves the path below which the server is shown as `root_path`, and takes it off the address
    where the proxy has not. A proxy that names it has: taken off twice, one spelling more would
    pass what such a proxy keeps from outside. prefix: where no believed proxy names another."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies, prefix: str = "") -> None:
        self.app = app
        self.proxies = proxies
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # in place: what stands around this tells the same of the request
        found = self._read(scope)
        prefix = self.prefix
        if found is not None:
            _apply(scope, found)
            prefix = self.prefix if found.prefix is None else found.prefix
        scope["root_path"] = prefix
        is_named = found is not None and found.prefix is not None
        is_bare = prefix and not is_named and scope["path"] == prefix
        if not is_named:
            _take_off(scope, prefix)
        if _is_below(scope["path"], prefix):  # the framework would take it off once more
            scope["root_path"] = ""
        if is_bare and scope["method"] in ("GET", "HEAD"):  # relative addresses need the slash
            query = scope["query_string"].decode("latin-1")
            url = f"{prefix}/" + (f"?{query}" if query else "")
            await RedirectResponse(url, 308)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _read(self, scope: Scope) -> Forwarded | None:
        peer = scope["client"][0] if scope.get("client") else None
        found = self.proxies.read(peer, Headers(scope=scope))
        kept = [pair for pair in scope["headers"] if pair[0].lower() not in _TAKEN_OFF]
        scope["headers"] = kept
        return found


def _apply(scope: Scope, found: Forwarded) -> None:
    if found.client:
        scope["client"] = (found.client, 0)
    if found.scheme is not None:
        scope["scheme"] = found.scheme
    if found.host is not None:
        others = [pair for pair in scope["headers"] if pair[0].lower() != b"host"]
        scope["headers"] = [(b"host", found.host.encode("ascii")), *others]


def _take_off(scope: Scope, prefix: str) -> None:
    path, raw = scope["path"], scope.get("raw_path") or b""
    if not _is_below(path, prefix):
        return
    scope["path"] = path[len(prefix) :] or "/"
    if raw.startswith(prefix.encode()):
        scope["raw_path"] = raw[len(prefix) :] or b"/"


def _is_below(path: str, prefix: str) -> bool:
    return bool(prefix) and (path == prefix or path.startswith(f"{prefix}/"))
