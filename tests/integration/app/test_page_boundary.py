"""What comes through the page's addresses: a real server, watched from within by an audit hook."""

from __future__ import annotations

import io
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.server import Server, eventually
from tests.integration.app.page_tab import API, Tab, error_of, wait_for_page

MIB = 2**20
SECRET = "no visitor may read this"
_WATCH = """
import os, sys
log = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
kinds = ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen")
def watch(event, args):
    if event in kinds:
        os.write(log, f"{event} {args!r}\\n".encode("utf-8", "replace"))
sys.addaudithook(watch)
"""


class Watched:
    """A server, what it opened since `mark`, and an address that nobody may call."""

    def __init__(self, server: Server, log: Path, sink: socket.socket, tmp: Path) -> None:
        self.server, self.log, self.sink, self.tmp = server, log, sink, tmp
        self.http = httpx.Client(base_url=server.base_url, timeout=30.0, verify=False)
        self.secret = tmp / "secret.png"
        self.secret.write_text(SECRET)
        self._begin = 0

    @property
    def sink_url(self) -> str:
        return f"http://127.0.0.1:{self.sink.getsockname()[1]}/x.png"

    def mark(self) -> None:
        self._begin = len(self.log.read_bytes())

    def opened(self) -> list[str]:
        """Events that are none of Python's own files, and none of Gradio's that it shows."""
        lines = self.log.read_bytes()[self._begin :].decode("utf-8", "replace").splitlines()
        return [line for line in lines if not ("open (" in line and _is_code(line))]

    def folder(self) -> Path:
        (found,) = self.tmp.glob("vlm-dlm-page-*")
        return found

    def files(self) -> list[Path]:
        return [path for path in self.folder().glob("*.*") if path.name != ".lock"]


def _is_code(line: str) -> bool:
    is_read = "'w" not in line and "'x" not in line and "'a" not in line
    return is_read and any(part in line for part in ("site-packages", "lib/python", "/app/vlm_dlm"))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    tmp, hook = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(_WATCH)
    log = hook / "log"
    env = {"PYTHONPATH": str(hook), "WATCH_LOG": str(log), "TMPDIR": str(tmp)}
    settings: dict[str, Any] = {
        "max_image_bytes": MIB,
        "max_upload_bytes": 3 * MIB,
        "max_uploads": 20,
        "max_page_streams": 4,
        "upload_s": 600,
    }
    words = tuple(f"word{number}" for number in range(40))
    with (
        socket.create_server(("127.0.0.1", 0)) as sink,
        Server(
            env,
            page=True,
            engine="scripted",
            script_words=words,
            script_step_s=0.05,
            single_process=True,
            **settings,
        ) as server,
    ):
        wait_for_page(server)
        found = Watched(server, log, sink, tmp)
        found.http.get("/config")
        yield found
        found.http.close()


def png(num_bytes: int = 0) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(target, "PNG")
    return target.getvalue().ljust(num_bytes, b"\0")


def upload(watched: Watched, *contents: bytes, name: str = "a.png") -> httpx.Response:
    files = [("files", (name, content)) for content in contents]
    return watched.http.post(f"{API}/upload", files=files)


def is_ours(reply: httpx.Response, status: int, code: str | None = None) -> bool:
    """The error body of the API."""
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.status_code == status, reply.text
    return code is None or error["code"] == code


def test_file_opens_neither_an_address_nor_a_file(watched: Watched) -> None:
    sink, secret = watched.sink_url, str(watched.secret)
    port = watched.sink.getsockname()[1]
    arguments = [
        *(
            sink,
            sink.upper(),
            sink.replace("//", "/"),
            sink.replace(":", "%3A"),
            f"//127.0.0.1:{port}",
        ),
        *(sink.replace(":", "%253A"), f"http://2130706433:{port}/", f"http://0x7f000001:{port}/"),
        *(
            f"http:\\\\127.0.0.1:{port}",
            f"http://u:p@127.0.0.1:{port}/",
            f"ftp://127.0.0.1:{port}/",
        ),
        *(
            secret,
            f"file://{secret}",
            f"%2e%2e/{secret}",
            secret.replace("/", "%2F"),
            "/etc/passwd",
        ),
        *(
            str(watched.folder()),
            f"{watched.folder()}/.lock",
            "/proc/self/environ",
            "data:text/plain,x",
        ),
    ]
    watched.mark()
    for argument in arguments:
        for prefix in ("file=", "file/", "proxy="):
            reply = watched.http.get(f"{API}/{prefix}{argument}")
            assert is_ours(reply, 404, "not_found"), argument
    assert watched.opened() == []
    watched.sink.settimeout(0.05)
    with pytest.raises(TimeoutError):
        watched.sink.accept()


def file_data(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def test_no_payload_has_a_file_or_an_address_opened(watched: Watched) -> None:
    values = [
        file_data(str(watched.secret)),
        file_data("x.png", url=watched.sink_url),
        {"path": str(watched.secret)},
        {"meta": {"_type": "gradio.FileData"}},
        {"meta": {"_type": "gradio.Other"}, "x": 1},
        {"url": watched.sink_url, "path": "", "is_stream": True},
    ]
    nested = [*values, [[values[0]]], {"a": {"b": [values[1]]}}]
    with Tab(watched.server).opened() as tab:
        watched.mark()
        for value in nested:
            reply = watched.http.post(f"{API}/call/generate", json={"data": ["x", value, "", None]})
            assert is_ours(reply, 400, "invalid_value"), value
            assert is_ours(tab.join("ask", value, None, "x", "ar", 8, 0, 0), 400)
            assert is_ours(tab.join("ask", "[]", value, "x", "ar", 8, 0, 0), 400)
            assert is_ours(tab.join("vote", None, [value]), 400)
            body = {"data": [], "fn_index": 2, "session_hash": "s", "event_data": value}
            assert is_ours(watched.http.post(f"{API}/queue/join", json=body), 400)
        # the address of a picture is left to the rules of the API
        url = file_data(watched.sink_url)
        reply = watched.http.post(f"{API}/call/generate", json={"data": ["x", url, "", None]})
        told = watched.http.get(f"{API}/call/generate/{reply.json()['event_id']}").text
        assert "does not fetch images" in told
        reply = watched.http.post(f"{API}/component_server", json={"data": values, "fn_name": "x"})
        assert is_ours(reply, 404)
        assert watched.opened() == []
    assert SECRET not in watched.server.log


def test_a_picture_comes_in_is_shown_and_goes(watched: Watched) -> None:
    data = png()
    (path,) = upload(watched, data).json()
    reply = watched.http.get(f"{API}/file={path}", headers={"Range": "bytes=5-1"})
    assert (reply.status_code, reply.content) == (200, data)
    assert reply.headers["content-type"] == "image/png"
    assert len(watched.files()) == 1
    assert watched.http.post("/page/free", json={"paths": [path, "/etc/passwd"]}).status_code == 204
    assert watched.files() == []
    assert is_ours(watched.http.get(f"{API}/file={path}"), 404)


@pytest.mark.parametrize(
    "data", [b"", b"text", b"<svg/>", b"<!doctype html>", b"\x7fELF", b"PK\x03\x04"]
)
def test_what_is_no_picture_is_refused(watched: Watched, data: bytes) -> None:
    assert is_ours(upload(watched, png(), data), 415, "unsupported_image")
    assert watched.files() == []


def test_uploads_are_refused_before_the_disk_is_full(watched: Watched) -> None:
    paths: list[str] = []
    while (reply := upload(watched, png(MIB // 4))).status_code == 200:
        paths += reply.json()
        assert len(paths) < 20
    assert len(paths) == 6  # half of 3 MiB
    assert is_ours(reply, 429, "uploads_full")
    assert reply.headers["retry-after"]
    watched.http.get(f"{API}/file={paths[0]}")  # was used, so it gives way
    assert upload(watched, png(MIB // 4)).status_code == 200
    assert len(watched.files()) == 6
    names = [f"/uploads/{path.name}" for path in watched.files()]
    watched.http.post("/page/free", json={"paths": names})
    assert watched.files() == []


def test_as_many_files_as_half_of_the_limit(watched: Watched) -> None:
    paths = upload(watched, *[png()] * 10).json()
    assert is_ours(upload(watched, png()), 429, "uploads_full")
    watched.http.post("/page/free", json={"paths": paths})


def test_faulty_forms_get_a_sentence_and_leave_nothing(watched: Watched) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="files"'
    bodies = [
        (b"--b\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (head + b'; filename=""\r\n\r\n\r\n--b--\r\n', "multipart/form-data; boundary=b"),
        (head + b"\r\n\r\nno file\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (head + b'; filename="a"\r\n\r\ncut short', "multipart/form-data; boundary=b"),
        (b"--b--\r\n", "multipart/form-data; boundary=b"),
        (b"x", "multipart/form-data"),
        (b"{}", "application/json"),
        (b"", ""),
    ]
    for body, content_type in bodies:
        headers = {"Content-Type": content_type}
        reply = watched.http.post(f"{API}/upload", content=body, headers=headers)
        assert reply.status_code in (400, 413, 415), (body, reply.text)
        assert is_ours(reply, reply.status_code)
    assert watched.files() == []
    assert "Traceback" not in watched.server.log


def test_other_names_of_the_server_are_not_believed(watched: Watched) -> None:
    headers = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Port": "1",
        "Forwarded": "host=evil.example;proto=https",
        "X-Gradio-Server": "https://evil.example",
        "X-Direct-Url": "https://evil.example",
        "X-Original-Url": "/evil",
    }
    for path in ("/config", "/", f"{API}/info"):
        plain, told = watched.http.get(path), watched.http.get(path, headers=headers)
        assert told.status_code == 200
        assert "evil" not in told.text
        assert len(plain.text) == len(told.text)
    assert watched.http.get("/config").json()["root"] == watched.server.base_url


def test_one_line_in_the_log_for_what_a_client_did_wrong(watched: Watched) -> None:
    http = watched.http
    join = {"data": [], "fn_index": 2, "session_hash": "s"}
    wrong = [
        ("GET", f"{API}/queue/data", {}),
        ("GET", f"{API}/queue/data?session_hash=nobody", {}),
        ("GET", f"{API}/queue/data?session_hash=%FF%00", {}),
        ("GET", f"{API}/call/generate/{'0' * 32}", {}),
        ("GET", f"{API}/call/nothing/{'0' * 32}", {}),
        ("POST", f"{API}/call/ask", {"json": {"data": [1, 2, 3, 4, 5, 6, 7]}}),
        ("POST", f"{API}/call/nothing", {"json": {"data": []}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "fn_index": 10**9}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "fn_index": 10**30}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "fn_index": -1}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "fn_index": 0}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "data": "text"}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "data": [1] * 1000}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "data": [1]}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "session_hash": None}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "session_hash": "x" * 1000}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "trigger_id": 10**8}}),
        ("POST", f"{API}/queue/join", {"json": {**join, "batched": True}}),
        ("POST", f"{API}/queue/join", {"json": []}),
        (
            "POST",
            f"{API}/queue/join",
            {"content": b"{", "headers": {"Content-Type": "application/json"}},
        ),
        (
            "POST",
            f"{API}/queue/join",
            {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
        ),
        ("POST", f"{API}/cancel", {"json": {"session_hash": 1, "fn_index": "x"}}),
        ("POST", f"{API}/cancel", {"content": b""}),
        ("POST", f"{API}/reset", {"json": [1]}),
        ("POST", "/page/free", {"json": {"paths": "x"}}),
        ("PUT", f"{API}/queue/join", {}),
        ("DELETE", "/", {}),
        ("OPTIONS", f"{API}/upload", {}),
        ("GET", f"{API}/upload_progress?upload_id=%0d%0a", {}),
        ("GET", f"{API}/heartbeat/x", {}),
        ("GET", "/assets/none.js", {}),
        ("GET", "/assets/%2e%2e/%2e%2e/routes.py", {}),
    ]
    for method, path, options in wrong:
        before = len(watched.server.lines)
        reply = http.request(method, path, **options)
        assert 400 <= reply.status_code < 500, (method, path, options, reply.text)
        assert is_ours(reply, reply.status_code), path
        eventually(lambda before=before: len(watched.server.lines) > before, 5)
        lines = watched.server.lines[before:]
        assert len(lines) == 1, (path, lines)


def test_odd_heads_are_no_failure_of_the_server(watched: Watched) -> None:
    for headers in (
        {"Range": "bytes=5-1"},
        {"Range": "bytes=-"},
        {"Range": "lines=1"},
        {"Range": "bytes=" + ",".join("0-" for _ in range(1000))},
        {"If-None-Match": "\u00ff"},
        {"Cookie": "\u00ff=;;;"},
        {"Accept-Encoding": "br;q=x, *;q=9"},
        {"Accept-Language": "\u00ff"},
    ):
        for path in ("/", "/config", "/robots.txt", "/static/img/logo.svg", "/theme.css"):
            encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            reply = watched.http.get(path, headers=encoded)
            assert reply.status_code == 200, (path, headers, reply.text)
    for query in ("?deep_link=../../x", "?\x80=%ff", "?page=x", "?__theme=dark"):
        assert watched.http.get(f"/{query}").status_code == 200
    assert "Traceback" not in watched.server.log


def test_values_of_wrong_types_end_in_a_sentence(watched: Watched) -> None:
    odd: list[Any] = [None, 5, "x", [[]], {"a": 1}]
    calls = {
        "ask": ["[]", None, "x", "ar", 2, 0, 0],
        "run_sweep": ["", "x", 2, "diffusion", ["0.9"], ["8"]],
        "start_round": ["", "x", 2, ["ar", "diffusion"], 0, 0],
        "show_axes": ["diffusion"],
        "vote": [None, []],
        "count": [[]],
        "to_csv": [[]],
        "generate": ["x", "", "", {"max_tokens": 2}],
        "compare": ["x", "", ["ar"], {"max_tokens": 2}],
        "chat": [[{"role": "user", "content": "x"}], "", {"max_tokens": 2}],
        "sweep": ["x", "", "", [0.9], [8], 2],
        "report": [{}, ""],
    }
    before = len(watched.server.lines)
    with Tab(watched.server).opened() as tab:
        for name, good in calls.items():
            for place in range(len(good)):
                for value in odd:
                    data = [*good[:place], value, *good[place + 1 :]]
                    reply = tab.join(name, *data)
                    if reply.status_code == 200:
                        found = list(tab.messages())
                        told = error_of(found)
                        assert told is None or told.endswith((".", "!")), (name, data, told)
                    else:
                        assert is_ours(reply, 400)
    log = "".join(watched.server.lines[before:])
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


def test_streams_end_when_there_is_nothing_to_tell(watched: Watched) -> None:
    with Tab(watched.server).opened() as tab:
        assert tab.join("modes").status_code == 200
        events = list(tab.messages())  # to its end
        assert events[-1]["msg"] == "close_stream"
        query = {"session_hash": tab.session}
        with tab.http.stream("GET", f"{API}/queue/data", params=query, timeout=40) as reply:
            assert reply.status_code == 200
            assert "close_stream" in reply.read().decode()
        assert error_of(tab.press("modes")) is None  # and the session goes on


def test_one_client_has_half_of_the_streams(watched: Watched) -> None:
    tabs = [Tab(watched.server) for _ in range(3)]
    for tab in tabs:
        assert tab.join("ask", "[]", None, "x", "ar", 300, 0, 0).status_code == 200
    for tab in tabs[:2]:
        tab.follow()
    query = {"session_hash": tabs[2].session}
    reply = tabs[2].http.get(f"{API}/queue/data", params=query)
    assert is_ours(reply, 429, "queue_full")
    assert "(max_page_streams)" in reply.text
    for tab in tabs:
        tab.close()
    eventually(lambda: watched.server.gauge("num_requests_running") == 0, 20)


def test_one_session_cannot_pile_up_answers(watched: Watched) -> None:
    with Tab(watched.server).opened() as tab:
        replies = [tab.join("modes") for _ in range(40)]
        refused = [reply for reply in replies if reply.status_code != 200]
        assert len(refused) == 8
        assert is_ours(refused[0], 429, "queue_full")


def test_a_visitor_ends_no_call_of_another(watched: Watched) -> None:
    with Tab(watched.server).opened() as tab:
        event = tab.join("ask", "[]", None, "x", "ar", 300, 0, 0).json()["event_id"]
        tab.follow()
        eventually(lambda: watched.server.gauge("num_requests_running") == 1, 10)
        body = {"session_hash": "another", "fn_index": 1, "event_id": event}
        assert watched.http.post(f"{API}/cancel", json=body).json() == {"success": True}
        assert watched.server.gauge("num_requests_running") == 1
    eventually(lambda: watched.server.gauge("num_requests_running") == 0, 10)


def test_what_a_killed_server_left_is_removed(watched: Watched, tmp_path: Path) -> None:
    left = tmp_path / "vlm-dlm-page-left"
    left.mkdir()
    (left / ".lock").touch()
    (left / "old.png").write_bytes(png())
    env = {"TMPDIR": str(tmp_path)}
    with Server(env, page=True, engine="scripted", single_process=True) as server:
        wait_for_page(server)
        assert not left.exists()
        assert len(list(tmp_path.glob("vlm-dlm-page-*"))) == 1
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert not list(tmp_path.glob("vlm-dlm-page-*"))
