"""What a request's first line and headers must be like, beyond what the parser asks of them.

The parser is strict about syntax. Here is what it leaves open: how long the body is must be said in
one way only, and the target must be one that a server can have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import httptools

from vlm_dlm_app.http.errors import ApiError

VERSIONS = ("1.0", "1.1")
MAX_HEADERS = 100
# Of a request's first line and headers, and of anything else that is not body (trailers, the
# framing of chunks): a parser keeps those until they are complete.
MAX_HEAD_BYTES = 64 * 1024
MAX_LENGTH_DIGITS = 15
MAX_PATH_BYTES = 4096
BAD_REQUEST = ApiError("bad_request", "this is not a valid HTTP request")
BAD_FRAMING = ApiError("bad_request", "the body does not end as its headers say")
TOO_LARGE = ApiError("headers_too_large", f"headers may have {MAX_HEAD_BYTES} bytes")
TOO_MANY = ApiError("headers_too_large", f"a request may have {MAX_HEADERS} headers")
NO_HTTP2 = ApiError(
    "http_version_not_supported", "this server speaks HTTP/1.1 and HTTP/1.0, nothing else"
)
_NO_TUNNELS = ApiError("method_not_implemented", "CONNECT is for proxies, and this is none")

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. authority: the host that the target itself names, if it does."""

    path: str
    raw_path: bytes
    query: bytes
    authority: bytes | None = None


def read_head(method: bytes, version: str, url: bytes, headers: Headers) -> Target:
    """The target of a request that can be answered. Raises ApiError for any other."""
    if version not in VERSIONS:
        raise NO_HTTP2
    if sum(len(name) + len(value) for name, value in headers) + len(url) > MAX_HEAD_BYTES:
        raise TOO_LARGE
    if method == b"CONNECT":
        raise _NO_TUNNELS
    _check_length(version, headers)
    if len(values_of(headers, b"host")) > 1:
        raise _bad("a request must name one Host")
    return _target(method, url)


def values_of(headers: Headers, wanted: bytes) -> list[bytes]:
    """All values of one header, whose name is in lower case."""
    return [value.strip() for name, value in headers if name == wanted]


def _bad(message: str) -> ApiError:
    return ApiError("bad_request", message)


def _check_length(version: str, headers: Headers) -> None:
    """How long the body is may be said once. Two ways would leave it to each reader which counts,
    and what one takes for the body another would take for the next request."""
    lengths = values_of(headers, b"content-length")
    codings = values_of(headers, b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise _bad("the length of the body must be given once")
    if lengths and not (lengths[0].isdigit() and len(lengths[0]) <= MAX_LENGTH_DIGITS):
        raise _bad("Content-Length must be a number of bytes")
    if codings and (codings[0].lower() != b"chunked" or version == "1.0"):
        raise _bad("Transfer-Encoding must be chunked, in HTTP/1.1")


def _target(method: bytes, url: bytes) -> Target:
    if url == b"*":
        if method != b"OPTIONS":
            raise _bad("only OPTIONS can be sent to *")
        return Target("*", url, b"")
    try:
        parsed = httptools.parse_url(url)
        raw_path, query = parsed.path or b"/", parsed.query or b""
        path = raw_path.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
        raise _bad("the request's target is not an address") from None
    if len(raw_path) > MAX_PATH_BYTES:  # no address is that long, and escapes take time to read
        raise ApiError("path_too_long", f"the path of an address may have {MAX_PATH_BYTES} bytes")
    if not parsed.schema:
        return Target(unquote(path) if "%" in path else path, raw_path, query)
    if parsed.schema.lower() not in (b"http", b"https") or not parsed.host:
        raise _bad("the request's target is not an address of this server")
    authority = url.split(b"/", 3)[2].partition(b"?")[0].partition(b"#")[0].rpartition(b"@")[2]
    return Target(unquote(path), raw_path, query, authority)
