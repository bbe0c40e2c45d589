"""The proxies of docs/security.md, as written there but for names, ports and certificates: TLS, the
page, streams piece by piece, and what they keep away. Skipped where the programs are missing."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.tools import ROOT, find_tool
from tests.e2e.server import Server
from tests.newcomer.blocks import block

PAGE = ROOT / "docs" / "security.md"
NAME = "vlm.example.org"
KEY = "a-key"
WORDS, STEP_S = tuple(f"word{number}" for number in range(20)), 0.05
LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """Reached at `url`, as the host `host`."""

    url: str
    host: str
    tls: ssl.SSLContext

    def client(self) -> httpx.Client:
        headers = {"Host": self.host, "Authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=headers, verify=self.tls, timeout=LIMIT_S)


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    settings = {"api_keys": KEY, "allowed_hosts": NAME, "page": True}
    with Server(engine="scripted", script_words=WORDS, script_step_s=STEP_S, **settings) as running:
        running.wait_for_line(re.compile("The page is at"))
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of this run, for our name alone."""
    folder = tmp_path_factory.mktemp("tls")
    pem, key = folder / "tls.pem", folder / "tls.key"
    command = (
        f"{find_tool('openssl')} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} "
        f"-addext subjectAltName=DNS:{NAME} -out {pem} -keyout {key}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return pem, key


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest,
    server: Server,
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Proxy]:
    program, folder, port = find_tool(request.param), tmp_path_factory.mktemp("proxy"), _free_port()
    write = {"nginx": _nginx, "caddy": _caddy}[request.param]
    arguments = write(folder, port, server.port, *certificate)
    tls = ssl.create_default_context(cafile=certificate[0])
    tls.check_hostname = False  # the name is not ours to resolve
    with (folder / "log.txt").open("wb") as log:
        environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        running = subprocess.Popen(
            [program, *arguments], stdout=log, stderr=log, cwd=folder, env=environment
        )
        try:
            _await_port(running, port, folder / "log.txt")
            yield Proxy(f"https://127.0.0.1:{port}", f"{NAME}:{port}", tls)
        finally:
            running.terminate()
            running.wait(LIMIT_S)


def _nginx(folder: Path, port: int, upstream: int, pem: Path, key: Path) -> list[str]:
    config = block(PAGE, "nginx", "proxy_pass")
    for shown, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/ssl/{NAME}.pem", str(pem)),
        (f"/etc/ssl/{NAME}.key", str(key)),
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
    ):
        assert shown in config
        config = config.replace(shown, ours)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"{user}daemon off;\npid {folder}/pid;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{config}}}\n"
    )
    return ["-p", str(folder), "-c", str(file), "-e", str(folder / "error.txt")]


def _caddy(folder: Path, port: int, upstream: int, pem: Path, key: Path) -> list[str]:
    config = block(PAGE, "caddyfile", "reverse_proxy")
    for shown, ours in (
        (f"{NAME} {{", f"https://{NAME}:{port} {{\n    bind 127.0.0.1\n    tls {pem} {key}"),
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
    ):
        assert shown in config
        config = config.replace(shown, ours)
    file = folder / "Caddyfile"
    # clients here reach it by address and so name no host in TLS
    file.write_text(f"{{\n    admin off\n    auto_https off\n    default_sni {NAME}\n}}\n{config}")
    return ["run", "--config", str(file), "--adapter", "caddyfile"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _await_port(running: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s and running.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(log.read_text(errors="replace"))


def test_a_stream_arrives_piece_by_piece(proxy: Proxy) -> None:
    body = {"prompt": "Go on.", "stream": True, "mode": "ar"}
    moments: list[float] = []
    with proxy.client() as client, client.stream("POST", "/v1/generate", json=body) as reply:
        assert reply.status_code == 200
        for _ in reply.iter_raw():
            moments.append(time.monotonic())
    assert len(moments) > len(WORDS) / 2
    assert moments[-1] - moments[0] > STEP_S * len(WORDS) / 2


def test_the_page_names_its_own_secure_address(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.get("/").status_code == 200
        assert client.get("/config").json()["root"] == f"https://{proxy.host}"


def test_the_page_may_call_and_foreign_pages_may_not(proxy: Proxy) -> None:
    with proxy.client() as client:
        for origin, status in ((f"https://{proxy.host}", 200), ("https://evil.example", 403)):
            reply = client.post(
                "/v1/generate", json={"prompt": "Hello"}, headers={"Origin": origin}
            )
            assert reply.status_code == status, origin


def test_what_the_proxy_keeps_away(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.get("/metrics").status_code == 403
        assert client.post("/v1/generate", content=bytes(27 * 2**20)).status_code == 413
        assert client.get("/v1/models", headers={"Authorization": ""}).status_code == 401
