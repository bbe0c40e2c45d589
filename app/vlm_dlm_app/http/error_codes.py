"""Every error code that a client may see, with the one status it has.

docs/serving.md#errors is written from this.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """Codes that are given for one reason.

    status: of the answer.
    codes: told apart by programs alone.
    when: they are given, in Markdown.
    """

    status: int
    codes: tuple[str, ...]
    when: str


ROWS = (
    Row(
        400,
        ("bad_body",),
        "the body could not be read, or is not packed as its `Content-Encoding` says",
    ),
    Row(400, ("bad_form",), "the form is not well formed"),
    Row(400, ("bad_idempotency_key",), "the key is empty, too long or not plain text"),
    Row(400, ("bad_image",), "an image cannot be read"),
    Row(400, ("bad_input",), "something asked for cannot be done; the message says what"),
    Row(400, ("bad_mode",), "unknown mode, or options that it cannot run"),
    Row(
        400,
        ("bad_prompt",),
        "the prompt has too many messages or characters, or does not fit its images",
    ),
    Row(
        400,
        ("bad_request",),
        "not valid HTTP, also by the length of its body; the connection is closed",
    ),
    Row(
        400,
        ("bad_structure",),
        "the schema or grammar of the answer is not valid, too large or too much work",
    ),
    Row(400, ("client_left",), "the client left before its request was complete"),
    Row(
        400,
        ("context_length_exceeded",),
        "the prompt, with the `max_tokens` asked for if any, is longer than the model's context",
    ),
    Row(
        400,
        ("idempotency_mismatch",),
        "the key belongs to a request with another body; "
        "not 409, which clients send again by themselves",
    ),
    Row(400, ("image_urls_off",), "images are not fetched from URLs here"),
    Row(400, ("invalid_json",), "the body is not JSON in UTF-8"),
    Row(400, ("invalid_value",), "a field has a wrong type or is out of range; `param` names it"),
    Row(
        400,
        (
            "json_too_deep",
            "json_too_large",
        ),
        "JSON with too many levels or parts; see [Bodies](#bodies)",
    ),
    Row(400, ("mode_not_offered",), "the engine lacks the mode; the message lists what there is"),
    Row(400, ("over_capacity",), "the request can never fit into this engine"),
    Row(400, ("over_limit",), "over a limit of this server"),
    Row(
        400,
        (
            "unsupported_content",
            "unsupported_field",
            "unsupported_role",
        ),
        "would change the answer and cannot be honoured; [which fields](fields.md)",
    ),
    Row(401, ("invalid_api_key",), "no key, or none of ours"),
    Row(
        403,
        (
            "host_not_allowed",
            "origin_not_allowed",
        ),
        "called under a foreign name, or by a foreign web page",
    ),
    Row(
        404,
        (
            "not_found",
            "model_not_found",
        ),
        "no such address, no such model",
    ),
    Row(405, ("method_not_allowed",), "the address takes other methods"),
    Row(408, ("body_timeout",), "the body did not arrive in time"),
    Row(
        408,
        ("deadline_exceeded",),
        "the deadline passed first; "
        "`X-Should-Retry: false` keeps OpenAI's clients from asking again",
    ),
    Row(
        413,
        (
            "body_too_large",
            "field_too_large",
            "image_too_large",
        ),
        "too many bytes or pixels",
    ),
    Row(
        413,
        (
            "too_many_parts",
            "too_many_headers",
            "part_headers_too_large",
        ),
        "a form with too many parts or headers",
    ),
    Row(414, ("path_too_long",), "the path of the address is too long"),
    Row(415, ("unsupported_encoding",), "the body is packed in a way that is not taken"),
    Row(415, ("unsupported_media_type",), "the body is of a type that is not taken"),
    Row(
        415,
        ("unsupported_image",),
        "not JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF, or a TIFF with colours that are not read",
    ),
    Row(429, ("queue_full",), "as much is waiting as may wait"),
    Row(429, ("too_many_connections",), "one address has as many connections open as it may"),
    Row(429, ("uploads_full",), "as many pictures lie uploaded on the page as may"),
    Row(431, ("headers_too_large",), "the request's headers are too large or too many"),
    Row(500, ("engine_error",), "the engine failed while it worked on this request"),
    Row(500, ("internal_error",), "any other failure"),
    Row(501, ("method_not_implemented",), "CONNECT, which is for proxies"),
    Row(503, ("connections_exhausted",), "as many connections are open as may be"),
    Row(503, ("unavailable",), "loading, ending or down"),
    Row(505, ("http_version_not_supported",), "neither HTTP/1.1 nor HTTP/1.0"),
    Row(400, ("stopped",), "on the page: somebody pressed Stop"),
    Row(409, ("busy",), "on the page: the visitor's last answer is still being written"),
)
STATUS = {code: row.status for row in ROWS for code in row.codes}
