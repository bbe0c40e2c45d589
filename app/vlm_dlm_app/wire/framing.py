"""What one connection may send that is no content: heads, the framing of chunks, trailers, and
bodies that nobody waits for any more."""

from __future__ import annotations

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.wire.request_head import MAX_HEAD_BYTES

# Each chunk is work of its own, whatever is in it. Clients that write as they encode send some
# small ones.
MAX_SMALL_CHUNKS = 4096
SMALL_CHUNK_BYTES = 64
FRAMING_SHARE = 8  # so many bytes of content pay for one of framing
# Of a body whose answer is given, so that its client can read that.
MAX_DRAINED_BYTES = 64 * 2**20
TOO_SMALL = ApiError(
    "bad_request",
    f"the body comes in more than {MAX_SMALL_CHUNKS} chunks of less than {SMALL_CHUNK_BYTES} bytes",
)


class Framing:
    """The account of one connection. `begin` each read, note what is found in it, then ask."""

    def __init__(self) -> None:
        self._num_idle_bytes = 0
        self._num_read_bytes = 0
        self._num_read_content = 0
        self._num_content = 0  # of this message
        self._num_chunks = 0
        self._num_drained = 0
        self._has_message = False

    def begin(self, num_bytes: int) -> None:
        self._num_read_bytes, self._num_read_content = num_bytes, 0
        self._has_message = False

    def note_head(self) -> None:
        """All of a request's headers are here."""
        self._has_message = True
        self._num_content = self._num_chunks = self._num_drained = 0

    def note_end(self) -> None:
        """A request is complete."""
        self._has_message = True

    def is_flooded(self) -> bool:
        """Whether one chunk more makes too many small ones."""
        self._num_chunks += 1
        return self._num_chunks > MAX_SMALL_CHUNKS + self._num_content // SMALL_CHUNK_BYTES

    def note_content(self, num_bytes: int, is_awaited: bool) -> bool:
        """Whether that much more of a body may come. is_awaited: its answer is not given yet."""
        self._num_read_content += num_bytes
        self._num_content += num_bytes
        self._num_drained += 0 if is_awaited else num_bytes
        return self._num_drained <= MAX_DRAINED_BYTES

    def is_too_much(self) -> bool:
        """Whether what is read so far without content is more than anybody needs."""
        if self._has_message:
            self._num_idle_bytes = 0
        else:
            paid = self._num_read_content + self._num_read_content // FRAMING_SHARE
            self._num_idle_bytes = max(self._num_idle_bytes + self._num_read_bytes - paid, 0)
        return self._num_idle_bytes > MAX_HEAD_BYTES
