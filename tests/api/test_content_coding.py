"""Packed bodies, marks before JSON, and JSON in other encodings: taken, or refused plainly."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.api.serving import LiveServer, live_server, png
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http.content_coding import MAX_MEMBERS, PIECE_BYTES, Unpacker
from vlm_dlm_app.settings.model import Settings

BODY = json.dumps({"prompt": "Wie groß?"}, ensure_ascii=False).encode()


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def post(server: LiveServer, body: bytes, encoding: str = "", key: str = "") -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    headers |= {"Content-Encoding": encoding} if encoding else {}
    headers |= {"Idempotency-Key": key} if key else {}
    return server.http.post(f"{server.url}/v1/generate", content=body, headers=headers)


def refusal(reply: httpx.Response) -> tuple[int, str, str]:
    error = reply.json()["error"]
    return reply.status_code, error["code"], error["message"]


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("identity", bytes),
        ("identity, gzip", gzip.compress),
    ],
)
def test_what_is_packed_is_unpacked(
    server: LiveServer, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    reply = post(server, pack(BODY), encoding)
    assert reply.status_code == 200, reply.text
    assert reply.json()["text"] == "There is one red circle."


def test_a_packed_body_in_several_files_and_pieces(server: LiveServer) -> None:
    half = len(BODY) // 2
    assert post(server, gzip.compress(BODY[:half]) + gzip.compress(BODY[half:]), "gzip").is_success
    packed = gzip.compress(BODY)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    pieces = (packed[i : i + 1] for i in range(len(packed)))  # chunked
    assert server.http.post(f"{server.url}/v1/generate", content=pieces, headers=headers).is_success


def test_a_packed_form(server: LiveServer) -> None:
    form = httpx.Request("POST", "http://x", data={"prompt": "hi"}, files=[("image", png())])
    headers = {"Content-Type": form.headers["content-type"], "Content-Encoding": "gzip"}
    url = f"{server.url}/v1/generate"
    assert server.http.post(url, content=gzip.compress(form.read()), headers=headers).is_success


def test_packed_and_plain_are_the_same_request(server: LiveServer) -> None:
    assert post(server, BODY, key="packed").is_success
    assert post(server, gzip.compress(BODY), "gzip", key="packed").is_success
    assert len(server.engine.requests) == 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "gzip;q=1"])
def test_other_codings_are_refused_with_what_is_taken(server: LiveServer, encoding: str) -> None:
    status, code, message = refusal(post(server, BODY, encoding))
    assert (status, code) == (415, "unsupported_encoding")
    assert "gzip, deflate and identity" in message


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1]),
        ("gzip", gzip.compress(BODY, mtime=0)[:5]),
        ("gzip", gzip.compress(BODY, mtime=0) + b"x"),
        ("gzip", gzip.compress(b"", mtime=0) * (MAX_MEMBERS + 1)),
        ("gzip", gzip.compress(BODY, mtime=0)[:-5] + b"\0\0\0\0\0"),
        ("deflate", zlib.compress(BODY) * 2),
        ("deflate", b"x"),
        ("deflate", BODY),
    ],
)
def test_what_is_not_packed_as_it_says_is_400(
    server: LiveServer, encoding: str, body: bytes
) -> None:
    status, code, message = refusal(post(server, body, encoding))
    assert (status, code) == (400, "bad_body")
    assert "Content-Encoding" in message


@pytest.mark.parametrize("num_bytes", [200_001, 2**27])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bare_deflate])
def test_the_limit_is_that_of_the_unpacked_body(
    checkpoint: Checkpoint, num_bytes: int, pack: Callable[[bytes], bytes]
) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    with live_server(checkpoint, Settings(max_body_bytes=200_000)) as running:
        reply = post(running, pack(b" " * num_bytes), encoding)
        assert refusal(reply)[:2] == (413, "body_too_large")
        assert post(running, pack(BODY + b" " * (200_000 - len(BODY))), encoding).is_success


def test_a_bomb_is_unpacked_no_further_than_it_is_wanted() -> None:
    pieces = Unpacker("gzip").pieces(gzip.compress(b" " * 2**27))
    assert all(len(next(pieces)) <= PIECE_BYTES for _ in range(3))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_pieces_of_any_size(size: int) -> None:
    data = bytes(range(256)) * 4096
    for coding, packed in (("gzip", gzip.compress(data)), ("deflate", bare_deflate(data))):
        unpacker, found = Unpacker(coding), bytearray()
        for place in range(0, len(packed), size):
            for piece in unpacker.pieces(packed[place : place + size]):
                found += piece
        unpacker.finish()
        assert found == data
    Unpacker("gzip").finish()  # of no body at all


def test_a_mark_before_json_is_taken(server: LiveServer) -> None:
    assert post(server, b"\xef\xbb\xbf" + BODY).is_success
    assert post(server, gzip.compress(b"\xef\xbb\xbf" + BODY), "gzip").is_success


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-32-le", "UTF-32"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_json_in_other_encodings_is_refused_by_name(
    server: LiveServer, encoding: str, found: str
) -> None:
    status, code, message = refusal(post(server, BODY.decode().encode(encoding)))
    assert (status, code) == (400, "invalid_json")
    assert message == f"the JSON is in {found}; it must be in UTF-8"


def test_json_in_latin_1_is_refused_for_that(server: LiveServer) -> None:
    reply = post(server, BODY.decode().encode("latin-1"))
    assert refusal(reply) == (400, "invalid_json", "the body is not valid JSON in UTF-8")


def _empty_blocks() -> Iterator[bytes]:
    """A packed body of nothing, for ever; no test waits for more of it than this."""
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    yield packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(200):
        yield b"\x00\x00\x00\xff\xff" * 200


def _endless_head() -> Iterator[bytes]:
    """The name of the packed file is in the head of gzip."""
    yield b"\x1f\x8b\x08\x08" + bytes(6)
    for _ in range(200):
        yield b"a" * 1000


@pytest.mark.parametrize("make", [_empty_blocks, _endless_head])
def test_packed_bytes_count_too(
    checkpoint: Checkpoint, make: Callable[[], Iterator[bytes]]
) -> None:
    with live_server(checkpoint, Settings(max_body_bytes=100_000)) as server:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        url = f"{server.url}/v1/generate"
        reply = server.http.post(url, content=make(), headers=headers)
        assert refusal(reply)[:2] == (413, "body_too_large")
