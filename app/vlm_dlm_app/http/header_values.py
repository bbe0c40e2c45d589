"""Values of headers, read in bounded time: parameters, as Content-Type has them, and hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from python_multipart.multipart import parse_options_header

# What is read grows with the value's length times its marks; names of files have few, nobody else
# has any.
MAX_MARKS = 32
MAX_TYPE_CHARS = 1024
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def parse_value(value: str | bytes) -> tuple[bytes, Mapping[bytes, bytes]]:
    """What is in front, in small letters, and the parameters; nothing of a value that is too rich
    to be meant. The caller bounds its length."""
    mark = ";" if isinstance(value, str) else b";"
    if value.count(mark) > MAX_MARKS:  # pyright: ignore[reportArgumentType]
        return b"", {}
    return parse_options_header(value)


def parse_type(value: str) -> tuple[str, Mapping[bytes, bytes]]:
    """The media type in a Content-Type, and its parameters; '' for one too long to be meant."""
    if len(value) > MAX_TYPE_CHARS:
        return "", {}
    kind, parameters = parse_value(value)
    return kind.decode("latin-1"), parameters


def is_host(value: str, has_port: bool = True) -> bool:
    """Whether it is the name or the address of a server. has_port: it may say which port."""
    found = _HOST.fullmatch(value)
    return found is not None and (has_port or found[1] is None)
