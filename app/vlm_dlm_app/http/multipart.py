"""Multipart forms, strictly and in bounded time: nothing on disk, names of files unread.

The body is in memory already (its size was checked as it came in) and is gone through once.
What standards allow but no client sends (preambles, padded boundaries, encoded parts) is refused.
python_multipart's own parser goes through what looks like boundaries or their padding by the byte:
24 MB of that take it 10 to 25 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.header_values import parse_type, parse_value

MEDIA_TYPE = "multipart/form-data"
MAX_PARTS = 64
MAX_PART_HEADERS = 8
MAX_HEADER_BYTES = 8192  # all headers of one part; names of files can be long
MAX_BOUNDARY_CHARS = 70
FIND_BYTES = 2**20
# What allows more in one part.
FILE_SETTING, TEXT_SETTING = "max_image_bytes", "max_prompt_chars"
_BREAK = b"\r\n"
_PLAIN_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})


@dataclass(frozen=True, slots=True)
class FormShape:
    """What a form may hold.

    files, texts: names of fields.
    repeatable: those that may come more than once.
    max_file_bytes, max_text_bytes: of one part, as the settings say that are named.
    """

    files: Set[str]
    texts: Set[str]
    repeatable: Set[str]
    max_file_bytes: int
    max_text_bytes: int


@dataclass(frozen=True, slots=True)
class Form:
    """Contents by field, in the order sent."""

    files: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])
    texts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    is_file: bool
    content: bytes


def parse_form(content_type: str, body: bytes, shape: FormShape) -> Form:
    """The form's fields. Raises ApiError: 413 for what is too large, 400 for what is no form and
    for fields that are unknown, repeated or of the wrong kind."""
    form = Form()
    for start, end in _split(body, _boundary(content_type)):
        part = _read_part(body, start, end)
        _check(part, shape, form)
        if part.is_file:
            form.files.setdefault(part.name, []).append(part.content)
        else:
            form.texts.setdefault(part.name, []).append(_decode(part))
    return form


def _malformed(message: str) -> ApiError:
    return ApiError("bad_form", message)


def _wrong(name: str, sentence: str) -> ApiError:
    shown = name[:100]
    return ApiError("invalid_value", f"{shown} {sentence}", shown)


def _boundary(content_type: str) -> bytes:
    boundary = parse_type(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= MAX_BOUNDARY_CHARS:
        raise _malformed(
            f"the form's boundary must have 1 to {MAX_BOUNDARY_CHARS} characters, "
            f"not {len(boundary)}"
        )
    return boundary


def _split(body: bytes, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Where the parts between the boundaries are, each from its headers on: start and end. Only
    contents are ever copied, so that a form takes little more than its files."""
    delimiter = _BREAK + b"--" + boundary
    if not body.startswith(delimiter[len(_BREAK) :]):
        raise _malformed("the form must begin with its boundary")
    start, num_parts = len(delimiter) - len(_BREAK), 0
    while not body.startswith(b"--", start):
        num_parts += 1
        if num_parts > MAX_PARTS:
            raise ApiError(
                "too_many_parts", f"the form has too many parts; the limit is {MAX_PARTS}"
            )
        end = _find(body, delimiter, start)
        if end < 0:
            raise _malformed("the form ends before its last boundary")
        if not body.startswith(_BREAK, start):
            message = "a boundary of the form is followed by something else than a line break"
            raise _malformed(message)
        yield start + len(_BREAK), end
        start = end + len(delimiter)


def _find(body: bytes, delimiter: bytes, start: int) -> int:
    """As `bytes.find`, but in pieces: what looks much like boundaries takes it a tenth of a second,
    in which no other thread could run."""
    for begin in range(start, len(body), FIND_BYTES):
        found = body.find(delimiter, begin, begin + FIND_BYTES + len(delimiter) - 1)
        if found >= 0:
            return found
    return -1


def _read_part(body: bytes, start: int, stop: int) -> _Part:
    end = body.find(_BREAK * 2, start, min(start + MAX_HEADER_BYTES + 4, stop))
    if end < 0:
        if stop - start > MAX_HEADER_BYTES:
            raise ApiError(
                "part_headers_too_large",
                f"a part's headers are too large; the limit is {MAX_HEADER_BYTES} bytes",
            )
        raise _malformed("a part of the form has no content")
    headers = _headers(body[start:end])
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_ENCODINGS:
        raise _malformed("a part of the form is encoded; parts must be sent as they are")
    kind, options = parse_value(headers.get(b"content-disposition", b""))
    if kind != b"form-data" or b"name" not in options:
        raise _malformed("a part of the form does not name its field")
    # The name of a file is not even decoded: nothing here may depend on it.
    name = options[b"name"].decode("utf-8", "replace")
    return _Part(name, b"filename" in options, body[end + 4 : stop])


def _headers(raw: bytes) -> Mapping[bytes, bytes]:
    lines = raw.split(_BREAK, MAX_PART_HEADERS)
    if len(lines) > MAX_PART_HEADERS:
        raise ApiError("too_many_headers", f"a part has more than {MAX_PART_HEADERS} headers")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        key = name.lower()
        if not colon or not key or key != key.strip() or key in headers:
            raise _malformed("a part of the form has a malformed or repeated header")
        headers[key] = value.strip()
    return headers


def _check(part: _Part, shape: FormShape, form: Form) -> None:
    name = part.name
    if name not in shape.files and name not in shape.texts:
        raise _wrong(name, "is not known here")
    if part.is_file and name not in shape.files:
        raise _wrong(name, "must be text, not a file")
    if not part.is_file and name not in shape.texts:
        raise _wrong(name, "must be a file")
    if name not in shape.repeatable and (name in form.files or name in form.texts):
        raise _wrong(name, "is given twice")
    limit, setting = (
        (shape.max_file_bytes, FILE_SETTING)
        if part.is_file
        else (shape.max_text_bytes, TEXT_SETTING)
    )
    if len(part.content) > limit:
        raise ApiError(
            "field_too_large",
            f"{name} has {len(part.content)} bytes; the limit is {limit} ({setting})",
            name,
        )


def _decode(part: _Part) -> str:
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong(part.name, "must be UTF-8 text") from None
