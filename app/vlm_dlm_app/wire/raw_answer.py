"""Errors as bytes, for connections that have no request to answer."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from uuid import uuid4

from vlm_dlm_app.http.errors import ApiError, error_body
from vlm_dlm_app.http.middleware.envelope import ID_HEADER, SECURITY_HEADERS

logger = logging.getLogger("vlm_dlm_app.requests")


def refuse(error: ApiError) -> bytes:
    """The whole answer, after which the connection must end. Leaves the one line in the log."""
    request_id = uuid4().hex  # whatever it named itself cannot be trusted, if it was read
    logger.info("request=%s status=%d cause=%s", request_id, error.status, error.code)
    body = json.dumps(error_body(error)).encode()
    headers = {
        **SECURITY_HEADERS,
        **error.headers,
        ID_HEADER: request_id,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
