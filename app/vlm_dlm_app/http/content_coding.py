"""Bodies that were packed for the way (Content-Encoding), unpacked piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from vlm_dlm_app.http.errors import ApiError

TAKEN = ("gzip", "deflate", "identity")
PIECE_BYTES = 256 * 1024
MAX_MEMBERS = 64  # of one gzip file; each costs the same, however empty
_GZIP, _ZLIB, _BARE = 31, 15, -15  # what zlib calls the three wrappings


class Unpacker:
    """Undoes one coding. Feed it all of the body, then `finish`."""

    def __init__(self, coding: str) -> None:
        self._is_gzip = coding == "gzip"
        self._num_members = 1
        self._has_begun = False
        self._head = b""
        self._stream = zlib.decompressobj(_GZIP) if self._is_gzip else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What comes out, at most PIECE_BYTES at a time, so that whoever asks can stop. Raises
        ApiError (400) for data that is not what it claims to be."""
        self._has_begun |= bool(data)
        if self._stream is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            self._stream = zlib.decompressobj(_ZLIB if _has_zlib_header(data) else _BARE)
        while True:
            if self._stream.eof and data:
                self._count_member()
                self._stream = zlib.decompressobj(_GZIP)
            try:
                piece = self._stream.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise _broken() from None
            data = self._stream.unused_data or self._stream.unconsumed_tail
            if piece:
                yield piece
            if not data and (self._stream.eof or len(piece) < PIECE_BYTES):
                return

    def finish(self) -> None:
        """Raises ApiError (400) for a body that is cut short; none at all is no fault."""
        is_over = self._stream is not None and self._stream.eof
        if self._has_begun and not is_over:
            raise _broken()

    def _count_member(self) -> None:
        self._num_members += 1
        if not self._is_gzip or self._num_members > MAX_MEMBERS:
            raise _broken()


def _has_zlib_header(data: bytes) -> bool:
    """deflate is meant with one (RFC 1950), and some send it without."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def unpacker_of(encoding: str) -> Unpacker | None:
    """For the header's value; None where nothing is packed. Raises ApiError (415)."""
    codings = [name.strip().lower() for name in encoding.split(",", 2)]
    codings = [name.removeprefix("x-") for name in codings if name not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in TAKEN:
        taken = f"{', '.join(TAKEN[:-1])} and {TAKEN[-1]}"
        message = f"the body's Content-Encoding is not taken here; {taken} are, one of them"
        raise ApiError("unsupported_encoding", message)
    return Unpacker(codings[0])


def _broken() -> ApiError:
    return ApiError("bad_body", "the body is not what its Content-Encoding says")
