"""One table from exceptions to HTTP answers, and the body that every error has.

Messages are ours. What a library says stays in the log, because it can hold addresses and paths.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from vlm_dlm.errors import (
    BusyError,
    ContextLengthError,
    DeadlineError,
    EngineError,
    VlmDlmError,
)
from vlm_dlm_app.http.addresses import Addresses
from vlm_dlm_app.http.error_codes import STATUS
from vlm_dlm_app.http.validation import place_of, sentence_of

logger = logging.getLogger(__name__)
MAX_MESSAGE_CHARS = 500
NO_ADDRESS = "there is no such address here"
INTERNAL_MESSAGE = "the server failed while it worked on this request"

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Code -> the field at fault, as OpenAI has it.
_PARAMS = {ContextLengthError.code: "messages"}
# Raised by the framework: status -> (code, message).
_FRAMEWORK = {
    400: ("bad_body", "the body could not be read"),
    404: ("not_found", NO_ADDRESS),
    405: ("method_not_allowed", "this address does not take this method"),
    413: ("body_too_large", "the body is too large"),
    415: ("unsupported_media_type", "the body is of a type that is not taken here"),
}


class ApiError(Exception):
    """An answer that is an error.

    code: one of `error_codes`, which has its status.
    message: a sentence for people.
    param: the field at fault.
    retry_after_s: whole seconds.
    challenge: with 401, how to say who one is.
    """

    def __init__(
        self,
        code: str,
        message: str,
        param: str | None = None,
        retry_after_s: int | None = None,
        challenge: str = "Bearer",
    ) -> None:
        super().__init__(message)
        self.status = STATUS[code]
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.challenge = challenge

    @property
    def type(self) -> str:
        """The class of error as OpenAI's clients know it."""
        return _TYPES.get(
            self.status, "server_error" if self.status >= 500 else "invalid_request_error"
        )

    @property
    def headers(self) -> dict[str, str]:
        """What the status asks for beside the body."""
        if self.status == 401:
            return {"WWW-Authenticate": self.challenge}
        if self.code == DeadlineError.code:
            # OpenAI's clients send again on any 408; this one is a limit of the request's own
            return {"X-Should-Retry": "false"}
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


ShortText = Annotated[str, Field(max_length=MAX_MESSAGE_CHARS)]


class ErrorDetail(BaseModel):
    """What went wrong, and which field is at fault if one is."""

    message: ShortText
    type: ShortText
    param: ShortText | None
    code: ShortText | None


class ErrorReply(BaseModel):
    """The body of every error."""

    error: ErrorDetail


def error_body(error: ApiError) -> dict[str, Any]:
    """The nested body of OpenAI's API, safe to encode as UTF-8."""
    return {
        "error": {
            "message": _clean(error.message[:MAX_MESSAGE_CHARS]),
            "type": error.type,
            "param": None if error.param is None else _clean(error.param),
            "code": error.code,
        }
    }


def _clean(text: str) -> str:
    """A request's own words may hold halves of surrogate pairs, which no answer can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The whole answer."""
    return JSONResponse(error_body(error), error.status, {**error.headers, **(headers or {})})


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: these statuses have the error body."""
    return {
        status: {"model": ErrorReply, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


def to_api_error(error: BaseException) -> ApiError:
    """The answer to any exception. Unknown ones say nothing about themselves."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid_request(error)
    if isinstance(error, HTTPException):
        return _framework_error(error.status_code)
    if isinstance(error, ClientDisconnect):
        return ApiError("client_left", "the client left before its request was complete")
    retry_after_s = error.retry_after_s if isinstance(error, BusyError) else None
    if isinstance(error, VlmDlmError) and error.code in STATUS.keys() - {VlmDlmError.code}:
        return ApiError(error.code, str(error), _PARAMS.get(error.code), retry_after_s)
    return ApiError(VlmDlmError.code, INTERNAL_MESSAGE)


def _framework_error(status: int) -> ApiError:
    code = VlmDlmError.code if status >= 500 else "bad_request"
    return ApiError(*_FRAMEWORK.get(status, (code, HTTPStatus(status).phrase.lower())))


def _invalid_request(error: RequestValidationError) -> ApiError:
    """The first fault found. Every wrong value is 400, as in OpenAI's API."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError("invalid_json", "the body is not valid JSON")
    param = place_of(first)
    message = f"{param or 'the body'} {sentence_of(first)}"
    return ApiError("invalid_value", message, param)


def note_error(scope: Scope, code: str) -> None:
    """Remember, for the line in the log, why this request was not answered as it wished."""
    scope.setdefault("state", {})["error_code"] = code


async def _answer(request: Request, error: Exception) -> JSONResponse:
    answer = to_api_error(error)
    if isinstance(error, HTTPException):
        answer.message = _with_advice(request, answer, error)
    note_error(request.scope, answer.code)
    if answer.status == 500:
        # a lost engine fails many at once and has logged why
        is_known = isinstance(error, ApiError | EngineError)
        logger.error("a request failed: %s", answer.message, exc_info=None if is_known else error)
    return error_response(answer, _allowed(error) if answer.status == 405 else None)


def _with_advice(request: Request, answer: ApiError, error: HTTPException) -> str:
    """What the framework refused, and what would work."""
    if answer.status == 404:
        return f"{answer.message}; {request.app.state.addresses.hint(request.scope['path'])}"
    if answer.status == 405:
        methods = _allowed(error)["Allow"]
        return f"this address takes {methods}, not {request.method}" if methods else answer.message
    return answer.message


def _allowed(error: Exception) -> Mapping[str, str]:
    """The methods that the address takes. HEAD goes with GET, which the routes do not know."""
    given = error.headers if isinstance(error, HTTPException) else None
    methods = (given or {}).get("Allow", "")
    return {"Allow": "GET, HEAD" if methods == "GET" else methods}


def install_error_handlers(app: FastAPI, addresses: Addresses) -> None:
    """Every error of a route gets the body above. What escapes all handlers is the middleware's.

    addresses: for what to say of one that is none.
    """
    app.state.addresses = addresses
    for cls in (ApiError, VlmDlmError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(cls, _answer)
