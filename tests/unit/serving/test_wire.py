"""Frames between the processes: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm import errors
from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.block_diffusion import BlockDiffusion
from vlm_dlm.errors import (
    CapacityError,
    EngineError,
    ImageTooLargeError,
    ModeError,
    PromptError,
    QueueFullError,
    UnavailableError,
    VlmDlmError,
)
from vlm_dlm.events import Canvas, Committed, Failed, Finished, GenerationEvent, Started, Stats
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput, SamplingParams
from vlm_dlm.serving.process import wire
from vlm_dlm.serving.process.wire import (
    PREFIX,
    Frame,
    FrameReader,
    decode_error,
    decode_item,
    decode_request,
    encode,
    encode_error,
    encode_event,
    encode_request,
)
from vlm_dlm.step import Origin, Token
from vlm_dlm.structure import Structure, StructureKind

names = st.text(max_size=20)
counts = st.integers(0, 2**40)
reals = st.floats(allow_nan=False)
ids = st.lists(st.integers(0, 2**20), max_size=20).map(tuple)
tokens = st.builds(Token, counts, counts, counts, reals, st.sampled_from(Origin))
by_kind = st.dictionaries(names, counts, max_size=4)
stats = st.builds(
    Stats,
    *(counts,) * 5,
    *(reals,) * 4,
    st.none() | reals,
    st.none() | ids,
    st.booleans(),
    by_kind,
    by_kind,
    counts,
    counts,
)
events = st.one_of(
    st.builds(Started, names, names, counts, counts, reals),
    st.builds(Committed, names, st.lists(tokens, max_size=4).map(tuple), names, counts, reals),
    st.builds(Canvas, names, ids, counts, reals),
    st.builds(Finished, names, names, names, stats, reals),
    st.builds(Failed, names, names, names, reals),
)
samplings = st.builds(
    SamplingParams,
    temperature=st.floats(0, 10),
    top_p=st.floats(0.01, 1),
    seed=st.none() | st.integers(0, 2**63 - 1),
    max_tokens=st.integers(1, 2**31),
    stop=st.lists(st.text(min_size=1, max_size=8), max_size=4).map(tuple),
    top_k=st.integers(0, 2**31),
    min_p=st.floats(0, 1),
    min_tokens=st.integers(0, 1),
    ignore_eos=st.booleans(),
    stop_token_ids=st.lists(counts, max_size=4).map(tuple),
    skip_special_tokens=st.booleans(),
)
LISTS: dict[str, Any] = {
    **{name: [] for name in ("stop", "stop_token_ids", "logit_bias", "bad_words")},
    "structure": None,
}
shapes = st.lists(st.tuples(st.just(3), st.integers(1, 5), st.integers(1, 5)), max_size=3)


def frames_of(parts: wire.Parts) -> list[Frame]:
    return FrameReader().feed(b"".join(parts))


def only(parts: wire.Parts) -> Frame:
    (frame,) = frames_of(parts)
    return frame


def request_of(parts: wire.Parts) -> GenerationRequest:
    return decode_request(only(parts), lambda plane: plane)


@given(events)
def test_events_come_out_as_they_went_in(event: GenerationEvent) -> None:
    frame = only(encode_event(7, event))
    assert (frame.kind, frame.stream) == ("event", 7)
    assert decode_item(frame) == event


@given(names, ids, st.sampled_from(sorted(MODES)), samplings, shapes, st.booleans())
def test_requests_come_out_as_they_went_in(
    name: str,
    token_ids: tuple[int, ...],
    mode: str,
    sampling: SamplingParams,
    sizes: list[tuple[int, int, int]],
    has_params: bool,
) -> None:
    planes = [np.random.default_rng(0).normal(size=size).astype(np.float32) for size in sizes]
    images = tuple(ImageInput(plane, f"hash {i}", i) for i, plane in enumerate(planes))
    params = MODES[mode].Params() if has_params else None
    sent = GenerationRequest(name, PromptInput(token_ids, images), mode, params, sampling, True)
    got = request_of(encode_request(3, sent))
    assert replace(got, prompt=sent.prompt) == sent
    assert got.prompt.token_ids == token_ids
    for plane, image in zip(planes, got.prompt.images, strict=True):
        np.testing.assert_array_equal(image.pixels, plane)
        assert image.pixels.flags.writeable
    assert [i.content_hash for i in got.prompt.images] == [i.content_hash for i in images]
    assert [i.num_tokens for i in got.prompt.images] == [i.num_tokens for i in images]


@given(
    st.lists(st.tuples(names, st.binary(max_size=60)), max_size=5),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.booleans(),
)
def test_frames_may_come_in_any_pieces(
    messages: list[tuple[str, bytes]], sizes: list[int], is_put_in_place: bool
) -> None:
    """Also where the bytes of a body are put where they belong instead of being handed over."""
    sent = b"".join(
        part for text, body in messages for part in encode({"kind": text}, [memoryview(body)])
    )
    reader, got, rest = FrameReader(), list[Frame](), sent
    for size in itertools.cycle(sizes):
        if not rest:
            break
        room = reader.room
        piece = rest[: min(size, len(room)) if is_put_in_place and room else size]
        rest = rest[len(piece) :]
        if is_put_in_place and room:
            room[: len(piece)] = piece
            got += reader.fill(len(piece))
        else:
            got += reader.feed(piece)
    assert [(frame.kind, bytes(frame.body)) for frame in got] == messages
    assert not reader.room


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_an_error_or_not_yet_a_frame(data: bytes) -> None:
    try:
        frames = FrameReader(max_header_bytes=64, max_body_bytes=64).feed(data)
    except EngineError:
        return
    for frame in frames:
        assert isinstance(frame.header, dict)


@pytest.mark.parametrize(
    ("header_len", "body_len"), [(65, 0), (0, 65), (2**32 - 1, 0), (0, 2**32 - 1)]
)
def test_a_length_over_its_limit_is_refused_before_anything_is_kept(
    header_len: int, body_len: int
) -> None:
    reader = FrameReader(max_header_bytes=64, max_body_bytes=64)
    with pytest.raises(EngineError):
        reader.feed(PREFIX.pack(header_len, body_len))


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 5000, b'"kind"'])
def test_a_header_is_an_object(text: bytes) -> None:
    with pytest.raises(EngineError):
        FrameReader().feed(PREFIX.pack(len(text), 0) + text)


@pytest.mark.parametrize("header", [{}, {"kind": 1}, {"kind": None}, {"kind": ["event"]}])
def test_a_frame_says_what_it_is(header: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        _ = only(encode(header)).kind


@pytest.mark.parametrize("stream", [None, "1", 1.0, True, [1]])
def test_a_stream_is_a_whole_number(stream: object) -> None:
    with pytest.raises(EngineError):
        _ = only(encode({"kind": "abort", "stream": stream})).stream


def submit(**changes: Any) -> Frame:
    """A good request with one picture, some fields of it changed; ... takes a field away."""
    image = ImageInput(np.zeros((3, 2, 2), np.float32), "hash", 1)
    frame = only(encode_request(1, GenerationRequest("r", PromptInput((1, 2), (image,)))))
    request = {**frame.header["request"], **changes}
    request = {name: value for name, value in request.items() if value is not ...}
    return Frame({**frame.header, "request": request}, frame.body)


IMAGE = {"shape": [3, 2, 2], "hash": "hash", "num_tokens": 1}


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in ("id", "mode", "params", "sampling", "token_ids", "images")),
        {"id": 5},
        {"mode": 5},
        {"mode": ["ar"]},
        {"params": 3},
        {"token_ids": "12"},
        {"token_ids": [1, 2.5]},
        {"token_ids": [True]},
        {"token_ids": [None]},
        {"sampling": None},
        {"sampling": {}},
        {"sampling": {**LISTS, "beam": 4}},
        {"sampling": {**LISTS, "temperature": "hot"}},
        {"sampling": {**LISTS, "stop": "x"}},
        {"sampling": {**LISTS, "stop_token_ids": 7}},
        {"keep_prompt": 1},
        {"images": {}},
        {"images": []},
        {"images": [IMAGE, IMAGE]},
        {"images": [{**IMAGE, "shape": [3, 2]}]},
        {"images": [{**IMAGE, "shape": [3, 2, 3]}]},
        {"images": [{**IMAGE, "shape": [3, 2, 1]}]},
        {"images": [{**IMAGE, "shape": [3, 2, -2]}]},
        {"images": [{**IMAGE, "shape": [3, 2, 0]}]},
        {"images": [{**IMAGE, "shape": [2**40, 2**40, 2**40]}]},
        {"images": [{**IMAGE, "hash": None}]},
        {"images": [{**IMAGE, "num_tokens": "1"}]},
    ],
    ids=str,
)
def test_a_malformed_request_is_one_plain_sentence(changes: dict[str, Any]) -> None:
    assert decode_request(submit(), lambda plane: plane).request_id == "r"
    with pytest.raises(EngineError, match="cannot be read"):
        decode_request(submit(**changes), lambda plane: plane)


def test_nested_values_of_the_sampling_arrive() -> None:
    sampling = SamplingParams(
        structure=Structure(StructureKind.CHOICE, '["a", "ü"]'),
        logit_bias=((3, -1.5), (7, 100.0)),
        bad_words=((1,), (2, 3)),
        num_logprobs=4,
    )
    request = GenerationRequest("r", PromptInput((1,)), sampling=sampling)
    (frame,) = frames_of(encode_request(1, request))
    assert decode_request(frame, lambda plane: plane).sampling == sampling


def test_values_out_of_range_are_the_callers_own_errors() -> None:
    with pytest.raises(ModeError, match="unknown"):
        decode_request(submit(mode="telepathy"), lambda plane: plane)
    with pytest.raises(VlmDlmError, match="temperature"):
        decode_request(submit(sampling={**LISTS, "temperature": -1}), lambda plane: plane)


def test_options_of_another_mode_are_refused_before_they_are_sent() -> None:
    request = GenerationRequest("r", PromptInput((1,)), "ar", BlockDiffusion.Params())
    with pytest.raises(ModeError, match="another mode"):
        encode_request(1, request)


@pytest.mark.parametrize(
    "error",
    [
        PromptError("too long"),
        ImageTooLargeError("too large"),
        CapacityError("no"),
        QueueFullError("full", 7),
        UnavailableError("loading", 3),
        EngineError("broken"),
    ],
    ids=lambda error: error.code,
)
def test_errors_come_out_as_they_went_in(error: VlmDlmError) -> None:
    got = decode_item(only(encode_error(2, error)))
    assert type(got) is type(error)
    assert str(got) == str(error)
    assert vars(got) == vars(error)


def test_every_error_has_its_code_in_the_table() -> None:
    classes = [errors.VlmDlmError]
    for cls in classes:
        classes += [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    assert {cls.code: cls for cls in classes} == errors.BY_CODE
    assert len(errors.BY_CODE) == len(classes)


def test_an_unknown_code_is_an_engine_error() -> None:
    header = {"kind": "error", "stream": 1, "code": "new", "message": "x", "retry_after_s": None}
    assert type(decode_error(only(encode(header)))) is EngineError


@pytest.mark.parametrize(
    "header",
    [
        {"kind": "event"},
        {"kind": "event", "event": {}},
        {"kind": "event", "event": {"event": "novel"}},
        {"kind": "event", "event": {"event": "failed", "request_id": "r"}},
        {"kind": "event", "event": {"event": "committed", "tokens": [{"origin": "?"}]}},
        {"kind": "event", "event": []},
        {"kind": "error", "code": "bad_input"},
        {"kind": "error", "code": 5, "message": "x", "retry_after_s": None},
        {"kind": "pong"},
    ],
    ids=str,
)
def test_a_malformed_event_is_an_engine_error(header: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        decode_item(only(encode(header)))


def test_what_is_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY_BYTES", 8)
    with pytest.raises(CapacityError, match="9 bytes; the engine accepts 8"):
        encode({"kind": "x"}, [memoryview(bytes(9))])
    monkeypatch.setattr(wire, "MAX_HEADER_BYTES", 20)
    with pytest.raises(CapacityError, match="the engine accepts 20"):
        encode({"kind": "x" * 20})


def test_a_header_is_plain_ascii_json() -> None:
    sent = b"".join(encode({"kind": "é\ud800"}))
    length, _ = PREFIX.unpack_from(sent)
    assert json.loads(sent[PREFIX.size :].decode("ascii")) == {"kind": "é\ud800"}
    assert length == len(sent) - PREFIX.size
