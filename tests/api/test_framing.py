"""Where a request ends is clear, or the connection does: no body can be taken for a request."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Generator

import pytest
from starlette.types import Receive, Scope, Send

from tests.api.serving import LiveServer, until
from tests.api.test_upgrades import LAST, echo, spied
from tests.api.wire import answers, exchange, wire_server
from vlm_dlm_app.http.middleware.guard import Guard
from vlm_dlm_app.wire.protocol import MAX_PIPELINED, BoundedProtocol
from vlm_dlm_app.wire.request_head import MAX_HEADERS

POST = b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
INNER = b"GET /inner HTTP/1.1\r\nHost: localhost\r\n\r\n"
BAD_HEADS = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "equal lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\n",
    "signed": POST + b"Content-Length: +5\r\n\r\n",
    "negative": POST + b"Content-Length: -5\r\n\r\n",
    "hexadecimal": POST + b"Content-Length: 0x5\r\n\r\n",
    "spaced": POST + b"Content-Length: 1 5\r\n\r\n",
    "empty": POST + b"Content-Length:\r\n\r\n",
    "huge": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "past any counter": POST + b"Content-Length: 9999999999999999\r\n\r\n",
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "nearly chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "a hidden tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": POST + b"X-A: b\r\n c\r\n\r\n",
    "a folded length": POST + b"Content-Length:\r\n 5\r\n\r\n",
    "line feeds alone": POST.replace(b"\r\n", b"\n") + b"\n",
    "one line feed alone": POST + b"X-A: b\nContent-Length: 5\r\n\r\n",
    "a carriage return alone": POST + b"X-A: b\rContent-Length: 5\r\n\r\n",
    "NUL": POST + b"X-A: b\x00\r\n\r\n",
    "no name": POST + b": b\r\n\r\n",
    "two hosts": POST + b"Host: other\r\n\r\n",
    "a star": b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another scheme": b"GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
BAD_CHUNKS = {
    "no number": b"hello\r\n",
    "negative": b"-2\r\n{}\r\n0\r\n\r\n",
    "prefixed": b"0x2\r\n{}\r\n0\r\n\r\n",
    "space before": b" 2\r\n{}\r\n0\r\n\r\n",
    "space after": b"2 \r\n{}\r\n0\r\n\r\n",
    "overflow": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "too long": b"2\r\n{}{}\r\n0\r\n\r\n",
    "too short": b"3\r\n{}\r\n0\r\n\r\n",
    "line feeds alone": b"2\n{}\n0\n\n",
    "one line feed alone": b"2\r\n{}\n0\r\n\r\n",
    "an empty extension": b"2;\r\n{}\r\n0\r\n\r\n",
    "a broken extension": b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "a broken trailer": b"2\r\n{}\r\n0\r\nnothing\r\n\r\n",
    "a blank line first": b"\r\n2\r\n{}\r\n0\r\n\r\n",
}


def check_one_refusal(said: bytes, status: int = 400, code: str = "bad_request") -> None:
    (answer,) = answers(said)
    assert answer.status == status, said
    assert json.loads(answer.body)["error"]["code"] == code
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("head", BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_head_that_can_be_read_in_two_ways_is_refused(server: LiveServer, head: bytes) -> None:
    check_one_refusal(exchange(server.port, [head + INNER]))
    check_one_refusal(exchange(server.port, [head[:-2], head[-2:], INNER], pause_s=0.01))


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_a_faulty_chunk_is_answered(
    server: LiveServer, chunks: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        check_one_refusal(exchange(server.port, [CHUNKED + chunks + INNER]))
        check_one_refusal(exchange(server.port, [CHUNKED, chunks, INNER], pause_s=0.01))
    ours = [record for record in caplog.records if record.name != "uvicorn.access"]
    lines = [record.getMessage() for record in ours]
    assert len([line for line in lines if "cause=bad_request" in line]) == 2, lines
    assert len(lines) == 2, lines  # one for each client's fault, and no traceback


@pytest.mark.parametrize("sent", [*BAD_HEADS.values(), *(CHUNKED + c for c in BAD_CHUNKS.values())])
def test_no_cut_makes_a_second_request_of_it(sent: bytes) -> None:
    for position in range(len(sent)):
        protocol, seen = spied()
        for piece in (sent[:position], sent[position:], INNER):
            protocol.take(piece)
        assert [path for path, _ in seen] == ["refused"], (position, seen)


def test_chunks_are_taken_as_the_standard_has_them(server: LiveServer) -> None:
    body = json.dumps({"prompt": "Hi"}).encode()
    sent = b'3;name=value;other="quoted"\r\n%s\r\n00%X\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n' % (
        body[:3], len(body) - 3, body[3:],
    )  # fmt: skip
    closing = INNER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    found = answers(exchange(server.port, [CHUNKED + sent + closing]))
    assert [answer.status for answer in found] == [200, 404]


@pytest.fixture(scope="module")
def port() -> Generator[int]:
    with wire_server(Guard(echo), Quick) as found:
        yield found


class Quick(BoundedProtocol):
    head_s = 0.5
    send_s = 0.5


def test_trailers_are_no_headers(port: int) -> None:
    sent = b"0\r\nAuthorization: Bearer x\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    for pieces in ([head + sent], [head, sent]):
        (answer,) = answers(exchange(port, pieces, pause_s=0.05))
        assert "authorization" not in json.loads(answer.body)["headers"]


def test_the_number_of_headers_is_bounded(port: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    most = b"".join(b"X-%d: a\r\n" % number for number in range(MAX_HEADERS - 2))
    (answer,) = answers(exchange(port, [head + most + b"\r\n"]))
    assert answer.status == 200
    check_one_refusal(exchange(port, [head + most + b"X: a\r\n\r\n"]), 431, "headers_too_large")
    tiny = b"".join(b"a:\r\n" for _ in range(10_000))
    check_one_refusal(exchange(port, [head + tiny + b"\r\n"]), 431, "headers_too_large")


def test_a_very_long_address_is_refused(port: int) -> None:
    said = exchange(port, [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"])
    check_one_refusal(said, 431, "headers_too_large")


def test_requests_in_one_packet_are_answered_in_order(port: int) -> None:
    sent = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20))
    found = answers(exchange(port, [sent + LAST]))
    assert [json.loads(a.body)["path"] for a in found] == [*(f"/{n}" for n in range(20)), "/last"]


def test_what_comes_before_nonsense_is_still_answered(port: int) -> None:
    *found, refusal = answers(exchange(port, [LAST.replace(b"close", b"keep-alive") + b"\x16\x03"]))
    assert [json.loads(answer.body)["path"] for answer in found] == ["/last"]
    assert refusal.status == 400


def test_only_so_many_may_wait(port: int) -> None:
    sent = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * (MAX_PIPELINED + 20)
    *found, refusal = answers(exchange(port, [sent]))
    assert len(found) == MAX_PIPELINED + 1
    assert json.loads(refusal.body)["error"]["code"] == "over_limit"


def test_blank_lines_do_not_keep_a_connection(port: int) -> None:
    began = time.monotonic()
    first = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    exchange(port, [first, *[b"\r\n"] * 12], pause_s=0.5)
    assert time.monotonic() - began < 7.5  # five seconds of idleness


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_a_body_goes_with_any_method(port: int, method: bytes) -> None:
    head = method + b" /outer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(INNER)
    said = exchange(port, [head, INNER + LAST], pause_s=0.02)
    if method == b"HEAD":
        said = said[said.index(b"\r\n\r\n") + 4 :]
        assert [json.loads(answer.body)["path"] for answer in answers(said)] == ["/last"]
    else:
        first, last = [json.loads(answer.body) for answer in answers(said)]
        assert (first["body"], last["path"]) == (INNER.decode(), "/last")


def test_a_body_that_nobody_waits_for_must_end() -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    with wire_server(hasty, Quick, keep_alive_s=60) as port:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(head)
            assert connection.recv(65536).endswith(b"ok")
            until(lambda: not _takes(connection, b"x"), 3.0)
        expecting = head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        (answer,) = answers(exchange(port, [expecting, LAST], pause_s=0.1))
        assert answer.headers["connection"] == "close"  # or LAST would be part of the body


def _takes(connection: socket.socket, data: bytes) -> bool:
    """Whether it still can be sent there."""
    try:
        connection.sendall(data)
    except ConnectionError:
        return False
    return True


def test_targets_in_absolute_form(server: LiveServer) -> None:
    url = f"http://localhost:{server.port}/version?a=b".encode()
    end = b" HTTP/1.1\r\nHost: foreign.example\r\nConnection: close\r\n\r\n"
    (answer,) = answers(exchange(server.port, [b"GET " + url + end]))
    assert answer.status == 200  # the target counts, not the header
    (answer,) = answers(exchange(server.port, [b"GET http://foreign.example/version" + end]))
    assert answer.status == 403
    (answer,) = answers(exchange(server.port, [b"GET http://user@localhost" + end]))
    assert answer.status in (200, 404)  # the page, or none


def test_options_for_the_server(server: LiveServer) -> None:
    sent = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    (answer,) = answers(exchange(server.port, [sent]))
    assert answer.status == 204
    assert "POST" in answer.headers["allow"]


def test_no_host_header_and_no_traceback(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    sent = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
    (answer,) = answers(exchange(server.port, [sent]))
    assert answer.status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("piece", [b"%41", b"a", b"%2F", b"/"])
def test_a_path_that_is_no_address_is_refused_before_it_is_read(port: int, piece: bytes) -> None:
    """Escapes take time: 20,000 of them 12 ms of everybody's."""
    path = b"/" + piece * (4096 // len(piece)) + b"x" * len(piece)
    head = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    check_one_refusal(exchange(port, [head % path]), 414, "path_too_long")
    closing = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    said = exchange(port, [closing % path[: 4096 - 3]])
    assert said.startswith(b"HTTP/1.1 200")
