"""Requests for another protocol are answered in this one, and their bodies stay bodies."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from tests.api.serving import LiveServer
from tests.api.wire import answers, exchange, wire_server
from vlm_dlm_app.wire.countdown import Countdown
from vlm_dlm_app.wire.framing import Framing
from vlm_dlm_app.wire.protocol import BoundedProtocol

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARA\r\n"
ASKS = {
    "h2c": H2C,
    "websocket": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "other case": "CONNECTION: uPgRaDe\r\nUPGRADE: H2C\r\n",
    "in a list": "Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n",
    "a list of protocols": "Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n",
    "several headers": "Connection: keep-alive\r\nConnection: Upgrade\r\n"
    "Upgrade: h2c\r\nUpgrade: foo\r\n",
    "Upgrade alone": "Upgrade: h2c\r\n",
    "Connection alone": "Connection: Upgrade\r\n",
    "before and after": "Upgrade: h2c\r\nX-A: b\r\nConnection: x,\tupgrade\r\n",
    "none": "",
}
INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LAST = b"POST /last HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it understood."""
    body, has_more = b"", True
    while has_more:
        message = await receive()
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    names = [name.decode() for name, _ in scope["headers"]]
    said = {"method": scope["method"], "path": scope["path"], "body": body.decode("latin-1")}
    text = json.dumps({**said, "headers": names}).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest) -> Generator[int]:
    with wire_server(echo, BoundedProtocol, loop=request.param) as found:
        yield found


def outer(ask: str, is_chunked: bool, body: bytes = INNER) -> bytes:
    length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    head = f"POST /outer HTTP/1.1\r\nHost: a\r\n{ask}{length}\r\n\r\n"
    return head.encode() + framed


def check_two(said: bytes, body: bytes = INNER) -> None:
    """The outer request with its whole body, and the one after it."""
    first, last = [json.loads(answer.body) for answer in answers(said)]
    assert (first["path"], first["body"]) == ("/outer", body.decode("latin-1"))
    assert (last["path"], last["body"]) == ("/last", "hi")


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_the_body_belongs_to_the_request(port: int, ask: str, is_chunked: bool) -> None:
    sent = outer(ask, is_chunked)
    head, body = sent[: -len(INNER)], sent[-len(INNER) :]
    check_two(exchange(port, [sent + LAST]))
    check_two(exchange(port, [head, body + LAST], pause_s=0.02))
    check_two(exchange(port, [sent, LAST], pause_s=0.02))


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_it_does_so_wherever_the_packets_part(is_chunked: bool) -> None:
    sent = outer(H2C, is_chunked) + LAST

    def in_pieces(position: int) -> list[tuple[str, str]]:
        """What the parser makes of it, without a network in between."""
        protocol, seen = spied()
        protocol.take(sent[:position])
        protocol.take(sent[position:])
        return seen

    whole = in_pieces(0)
    assert [path for path, _ in whole] == ["/outer", "/last"]
    assert whole[0][1] == INNER.decode()
    for position in range(1, len(sent)):
        assert in_pieces(position) == whole, position


def spied() -> tuple[BoundedProtocol, list[tuple[str, str]]]:
    """A connection without a network, and (path, body) of each request complete on it."""
    seen: list[tuple[str, str]] = []

    class Spied(BoundedProtocol):
        _bodies: bytes = b""

        def __init__(self) -> None:
            self.parser = httptools.HttpRequestParser(self)
            self.loop = asyncio.new_event_loop()
            self.pipeline = []  # pyright: ignore
            self.timeout_keep_alive_task = None
            self.app_state, self.asgi_version, self.root_path = {}, "3.0", ""
            self.server = self.client = self.scheme = self.cycle = None  # pyright: ignore
            self._framing = Framing()
            self._patience = Countdown(self.loop, lambda: None)
            self._patience.start = lambda seconds: None

        def _begin(self, method: str, version: str, target: object) -> None:
            self._bodies = b""

        def on_body(self, body: bytes) -> None:
            self._bodies += body

        def on_message_complete(self) -> None:
            if not self.parser.should_upgrade():
                self._is_in_body = False
                seen.append((self.url.decode(), self._bodies.decode("latin-1")))

        def _give_up(self) -> None:
            self._is_deaf = True
            seen.append(("refused", str(self._refusal)))

    made = Spied()
    made.loop.close()
    return made, seen


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    asks=st.lists(st.tuples(st.sampled_from(sorted(ASKS.values())), st.booleans()), max_size=4),
    cuts=st.lists(st.integers(min_value=0, max_value=900), max_size=8),
)
def test_any_number_of_them_in_any_pieces(asks: list[tuple[str, bool]], cuts: list[int]) -> None:
    sent = b"".join(outer(ask, is_chunked) for ask, is_chunked in asks) + LAST
    protocol, seen = spied()
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    for start, end in itertools.pairwise(edges):
        protocol.take(sent[start:end])
    assert seen == [*[("/outer", INNER.decode())] * len(asks), ("/last", "hi")]


def test_a_request_without_a_body_is_answered_and_the_next_too(port: int) -> None:
    said = exchange(port, [f"GET /one HTTP/1.1\r\nHost: a\r\n{H2C}\r\n".encode() + LAST])
    assert [json.loads(answer.body)["path"] for answer in answers(said)] == ["/one", "/last"]


def test_it_may_expect_100_continue_too(port: int) -> None:
    sent = outer(H2C + "Expect: 100-continue\r\n", is_chunked=False)
    said = exchange(port, [sent[: -len(INNER)], sent[-len(INNER) :], LAST], pause_s=0.1)
    interim, *rest = answers(said)
    assert interim.status == 100
    assert json.loads(rest[0].body)["body"] == INNER.decode()


def test_http_1_0_may_not_ask_to_keep_what_it_closes(port: int) -> None:
    head = (
        b"POST /outer HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
    )
    (answer,) = answers(exchange(port, [head, b"hi"], pause_s=0.05))
    assert json.loads(answer.body)["body"] == "hi"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 50\r\n\r\n" + INNER, 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" + H2C.encode() + b"\r\n" + INNER, 501),
    ],
)
def test_what_is_another_protocol_gets_one_answer(port: int, sent: bytes, status: int) -> None:
    for pieces in ([sent], [sent[:9], sent[9:20], sent[20:]]):
        (answer,) = answers(exchange(port, pieces, pause_s=0.02))
        assert answer.status == status
        assert json.loads(answer.body)["error"]["message"]


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Ask {
    public static void main(String[] a) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(a[0] + "/v1/chat/completions"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(a[1]))
            .build();
        HttpResponse<String> reply = HttpClient.newHttpClient()
            .send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(reply.statusCode() + " " + reply.version() + " " + reply.body());
    }
}
"""


def test_javas_own_client_is_answered(server: LiveServer, tmp_path: Path) -> None:
    """It asks for HTTP/2 with every first request."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("there is no java here")
    source = tmp_path / "Ask.java"
    source.write_text(JAVA)
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
    done = subprocess.run(
        [java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(source), server.url, body],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("200 HTTP_1_1 "), done.stdout + done.stderr
    assert "There is one red circle." in done.stdout
