"""Requests for another protocol on the same connection, which are not granted.

A server may ignore them (RFC 9110, section 7.8): the request is then answered as it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlm_dlm_app.wire.request_head import Headers

if TYPE_CHECKING:
    import httptools

_FRAMING = (b"content-length", b"transfer-encoding")


def plain_head(parser: httptools.HttpRequestParser, headers: Headers) -> bytes:
    """A head that tells a new parser as much as it needs to find the end of the same body."""
    version = parser.get_http_version().encode("ascii")
    connection = b"keep-alive" if parser.should_keep_alive() else b"close"
    kept = [(name, value) for name, value in headers if name in _FRAMING]
    lines = [b"%s: %s" % header for header in [*kept, (b"connection", connection)]]
    return b"\r\n".join([b"%s / HTTP/%s" % (parser.get_method(), version), *lines, b"", b""])
