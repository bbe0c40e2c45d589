"""Keeps other people's web pages from driving a server that only its own machine should reach.

A foreign page can make a browser post to us (checked by Origin), and can point its own name at our
address (DNS rebinding, checked by Host). Programs other than browsers send no Origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vlm_dlm_app.http.errors import ApiError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PROBING = frozenset({"GET", "HEAD"})
# Asked for every few seconds by machines. They tell what runs, and nothing of what was asked.
PROBE_PATHS = re.compile(r"/metrics|(/v1)?/health(/live|/ready)?")


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from its own machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Gate:
    """Refuses (403) requests under a foreign Host and those that a foreign page makes.

    bound_to: the address the server listens on; away from loopback any Host will do unless
    `allowed_hosts` says which.
    """

    def __init__(
        self,
        app: ASGIApp,
        bound_to: str,
        allowed_hosts: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
    ) -> None:
        self.app = app
        checks_hosts = bool(allowed_hosts) or is_loopback(bound_to)
        self._hosts = LOOPBACK_NAMES | set(allowed_hosts) if checks_hosts else None
        self._origins = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            is_probe = scope["method"] in PROBING and PROBE_PATHS.fullmatch(scope["path"])
            self._check_host(headers, bool(is_probe))
            self._check_origin(scope, headers)
        await self.app(scope, receive, send)

    def _check_host(self, headers: Headers, is_probe: bool) -> None:
        """Probes and scrapers come by whatever address the machine has."""
        if self._hosts is None or is_probe:
            return
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _without_port(hosts[0]).lower() not in self._hosts:
            raise ApiError(
                "host_not_allowed",
                "this server does not answer to that host name; allowed_hosts adds names",
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        method, origins = scope["method"], headers.getlist("origin")
        is_preflight = method == "OPTIONS" and "access-control-request-method" in headers
        if not origins or (method in SAFE_METHODS and not is_preflight):
            return
        origin = origins[0].lower()
        scheme, _, place = origin.partition("://")
        is_own = place == headers.get("host", "").lower() != "" and scheme in _own_schemes(scope)
        if len(origins) > 1 or not (is_own or origin in self._origins):
            raise ApiError(
                "origin_not_allowed",
                "pages of that origin may not call here; allow_origins adds origins",
            )


def _own_schemes(scope: Scope) -> tuple[str, ...]:
    """Of the server's own pages. https is known where a believed proxy says so; http is also what
    comes from a proxy that says nothing."""
    return ("https",) if scope["scheme"] == "https" else ("http", "https")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and not name.endswith(":") else host
