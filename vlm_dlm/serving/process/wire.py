"""What the front and the engine process say to each other: frames of a fixed form, no pickle.

A frame is two lengths, a JSON object (the header) and raw bytes (the body: little-endian float32
pixels of all images of a request, one after another). Every header has a `kind`; one about a
request has a `stream`, a number that is never used twice on a connection.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlm_dlm.decoding import build_params, find_mode
from vlm_dlm.errors import BY_CODE, BusyError, CapacityError, EngineError, ModeError, VlmDlmError
from vlm_dlm.events import GenerationEvent, from_dict, to_dict
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput, SamplingParams
from vlm_dlm.structure import Structure, StructureKind

PREFIX = struct.Struct(">II")  # bytes of the header, bytes of the body
MAX_HEADER_BYTES = 2**24
MAX_BODY_BYTES = 2**29
PIXEL_TYPE = np.dtype("<f4")

Parts = list[bytes | memoryview]  # of one frame, to be sent in this order
ToPixels = Callable[["np.ndarray[Any, Any]"], Any]
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. The body is writable memory of its own."""

    header: dict[str, Any]
    body: bytearray

    @property
    def kind(self) -> str:
        """What the message is about. Raises EngineError if it does not say."""
        return self._field("kind", str)

    @property
    def stream(self) -> int:
        """Which request it is about. Raises EngineError if it does not say."""
        return self._field("stream", int)

    def _field(self, name: str, kind: type) -> Any:
        value = self.header.get(name)
        if type(value) is not kind:
            raise _malformed()
        return value


class FrameReader:
    """Bytes as they come in, frames out."""

    def __init__(
        self, max_header_bytes: int = MAX_HEADER_BYTES, max_body_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self.max_header_bytes = max_header_bytes
        self.max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._open: Frame | None = None  # its body is not complete
        self._num_filled = 0

    @property
    def room(self) -> memoryview:
        """Where the rest of a body belongs; empty between frames. Who puts bytes there itself saves
        copies of what may be megabytes, and calls `fill`."""
        return memoryview(b"" if self._open is None else self._open.body)[self._num_filled :]

    def fill(self, num_bytes: int) -> list[Frame]:
        """So many bytes were put into `room`. The frame, if that completes it."""
        assert self._open is not None
        self._num_filled += num_bytes
        if self._num_filled < len(self._open.body):
            return []
        frame, self._open, self._num_filled = self._open, None, 0
        return [frame]

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """Frames that are complete now. Raises EngineError for what is no frame or is over a limit;
        nothing after that can be read."""
        rest, room, frames = memoryview(data), self.room, list[Frame]()
        if room:
            num_bytes = min(len(room), len(rest))
            room[:num_bytes], rest = rest[:num_bytes], rest[num_bytes:]
            frames += self.fill(num_bytes)
        self._buffer += rest
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < PREFIX.size:
            return None
        header_len, body_len = PREFIX.unpack_from(buffer)
        if header_len > self.max_header_bytes or body_len > self.max_body_bytes:
            raise _malformed()
        body_start = PREFIX.size + header_len
        if len(buffer) < body_start:
            return None
        header, end = _parse(buffer[PREFIX.size : body_start]), body_start + body_len
        if len(buffer) >= end:
            frame = Frame(header, buffer[body_start:end])
            del buffer[:end]
            return frame
        self._open, self._num_filled = Frame(header, bytearray(body_len)), len(buffer) - body_start
        self._open.body[: self._num_filled] = buffer[body_start:]
        buffer.clear()
        return None


def encode(header: dict[str, Any], blobs: Sequence[memoryview] = ()) -> Parts:
    """One frame. Raises CapacityError if it is over the limit."""
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    num_bytes = sum(blob.nbytes for blob in blobs)
    for size, limit in ((len(text), MAX_HEADER_BYTES), (num_bytes, MAX_BODY_BYTES)):
        if size > limit:
            raise CapacityError(f"the request takes {size} bytes; the engine accepts {limit}")
    return [PREFIX.pack(len(text), num_bytes) + text, *blobs]


def encode_request(stream: int, request: GenerationRequest) -> Parts:
    """A `submit` frame. Pixels are sent from where they are, without a copy.

    Raises ModeError for an unknown mode or the options of another one.
    """
    mode, params = find_mode(request.mode), request.params
    if params is not None and not isinstance(params, mode.Params):
        raise ModeError(f"mode {mode.name} got the options of another mode")
    prompt = request.prompt
    planes = [np.ascontiguousarray(image.pixels, dtype=PIXEL_TYPE) for image in prompt.images]
    raw = {
        "id": request.request_id,
        "mode": request.mode,
        "params": None if params is None else asdict(params),
        "sampling": asdict(request.sampling),
        "token_ids": prompt.token_ids,
        "images": [
            {"shape": plane.shape, "hash": image.content_hash, "num_tokens": image.num_tokens}
            for plane, image in zip(planes, prompt.images, strict=True)
        ],
        "keep_prompt": request.keep_prompt,
    }
    header = {"kind": "submit", "stream": stream, "request": raw}
    return encode(header, [plane.data.cast("B") for plane in planes])


def decode_request(frame: Frame, to_pixels: ToPixels) -> GenerationRequest:
    """The request of a `submit` frame. to_pixels: from a writable float32 array [3, H, W].

    Raises BadInputError for values out of range, EngineError for a malformed frame.
    """
    try:
        raw = frame.header["request"]
        mode, params = find_mode(_typed(raw["mode"], str)), raw["params"]
        return GenerationRequest(
            _typed(raw["id"], str),
            PromptInput(_token_ids(raw["token_ids"]), _images(raw["images"], frame, to_pixels)),
            raw["mode"],
            None if params is None else build_params(mode, _typed(params, dict)),
            _sampling(_typed(raw["sampling"], dict)),
            _typed(raw["keep_prompt"], bool),
        )
    except _MALFORMED:
        raise _malformed() from None


def encode_event(stream: int, event: GenerationEvent) -> Parts:
    """An `event` frame."""
    return encode({"kind": "event", "stream": stream, "event": to_dict(event)})


def encode_error(stream: int, error: VlmDlmError) -> Parts:
    """An `error` frame: the request was refused, or failed outside the engine's own events."""
    retry_after_s = error.retry_after_s if isinstance(error, BusyError) else None
    return encode({"kind": "error", "stream": stream, **error_fields(error, retry_after_s)})


def decode_item(frame: Frame) -> GenerationEvent | VlmDlmError:
    """What an `event` or `error` frame holds. Raises EngineError for a malformed one."""
    try:
        if frame.kind == "event":
            return from_dict(_typed(frame.header["event"], dict))
        if frame.kind == "error":
            return decode_error(frame)
    except _MALFORMED:
        raise _malformed() from None
    raise _malformed()


def error_fields(error: VlmDlmError, retry_after_s: int | None = None) -> dict[str, Any]:
    """An error as plain values; `decode_error` is the inverse."""
    return {"code": error.code, "message": str(error), "retry_after_s": retry_after_s}


def decode_error(frame: Frame) -> VlmDlmError:
    """An error of the class that has the code; EngineError for a code that none has."""
    try:
        cls = BY_CODE.get(_typed(frame.header["code"], str), EngineError)
        message, retry_after_s = _typed(frame.header["message"], str), frame.header["retry_after_s"]
        if issubclass(cls, BusyError) and retry_after_s is not None:
            return cls(message, _typed(retry_after_s, int))
        return cls(message)
    except _MALFORMED:
        raise _malformed() from None


def _parse(text: bytearray) -> dict[str, Any]:
    try:
        return _typed(json.loads(text), dict)
    except (*_MALFORMED, RecursionError):
        raise _malformed() from None


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected")
    return value


def _sampling(raw: dict[str, Any]) -> SamplingParams:
    lists = {name: tuple(_typed(raw[name], list)) for name in ("stop", "stop_token_ids")}
    for name in ("logit_bias", "bad_words"):
        lists[name] = tuple(tuple(_typed(entry, list)) for entry in _typed(raw[name], list))
    structure = raw["structure"]
    if structure is not None:
        kind, source = StructureKind(structure["kind"]), _typed(structure["source"], str)
        structure = Structure(kind, source)
    values: dict[str, Any] = {**raw, **lists, "structure": structure}
    return SamplingParams(**values)


def _token_ids(raw: Any) -> tuple[int, ...]:
    if not all(type(token_id) is int for token_id in _typed(raw, list)):
        raise TypeError("token ids are whole numbers")
    return tuple(raw)


def _images(raw: Any, frame: Frame, to_pixels: ToPixels) -> tuple[ImageInput, ...]:
    """The images share the memory of the frame's body."""
    images: list[ImageInput] = []
    start = 0
    for entry in _typed(raw, list):
        shape = _token_ids(entry["shape"])
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError("pixels have the shape [3, H, W]")
        size = math.prod(shape)
        plane = np.frombuffer(frame.body, PIXEL_TYPE, size, start).reshape(shape)
        start += size * PIXEL_TYPE.itemsize
        images.append(
            ImageInput(
                to_pixels(plane), _typed(entry["hash"], str), _typed(entry["num_tokens"], int)
            )
        )
    if start != len(frame.body):
        raise ValueError("the body holds other pixels than the header says")
    return tuple(images)


def _malformed() -> EngineError:
    return EngineError("a message between the server's own processes cannot be read")
