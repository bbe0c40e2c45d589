"""nginx and Caddy with the examples of docs/security.md, as written there but for names, ports and
certificates."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.tools import ROOT, find_tool
from tests.newcomer.blocks import block

PAGE = ROOT / "docs" / "security.md"
NAME = "vlm.example.org"
KEY = "a-key"
LIMIT_S = 20.0
BELOW = "/vlm"  # of the examples for a path


@dataclass(frozen=True, slots=True)
class Proxy:
    """Reached at `url`, as the host `host`."""

    url: str
    host: str
    tls: ssl.SSLContext

    def client(self) -> httpx.Client:
        headers = {"Host": self.host, "Authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=headers, verify=self.tls, timeout=LIMIT_S)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Of this run, for our name alone: certificate and key."""
    pem, key = folder / "tls.pem", folder / "tls.key"
    command = (
        f"{find_tool('openssl')} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} "
        f"-addext subjectAltName=DNS:{NAME} -out {pem} -keyout {key}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return pem, key


@contextmanager
def proxying(
    program: str, folder: Path, upstream: int, certificate: tuple[Path, Path], place: str = ""
) -> Generator[Proxy]:
    """A running proxy before the server on the port `upstream`; skips where there is none. place:
    what stands for the whole host, in place of the example for that, in the proxy's language."""
    path, port = find_tool(program), _free_port()
    write = {"nginx": _nginx, "caddy": _caddy}[program]
    arguments = write(folder, port, upstream, certificate, place)
    tls = ssl.create_default_context(cafile=certificate[0])
    tls.check_hostname = False  # the name is not ours to resolve
    with (folder / "log.txt").open("wb") as log:
        environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        running = subprocess.Popen(
            [path, *arguments], stdout=log, stderr=log, cwd=folder, env=environment
        )
        try:
            _await_port(running, port, folder / "log.txt")
            yield Proxy(f"https://127.0.0.1:{port}", f"{NAME}:{port}", tls)
        finally:
            running.terminate()
            running.wait(LIMIT_S)


def below_a_path(program: str) -> str:
    """The example for a proxy that takes the path off."""
    language = {"nginx": "nginx", "caddy": "caddyfile"}[program]
    return block(PAGE, language, "X-Forwarded-Prefix /vlm")


def _nginx(
    folder: Path, port: int, upstream: int, certificate: tuple[Path, Path], place: str
) -> list[str]:
    pem, key = certificate
    config = block(PAGE, "nginx", "server_name")
    if place:
        config = re.sub(r"    location / \{.*\n\}\n$", lambda _: f"{place}}}\n", config, flags=re.S)
        assert place in config
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


def _caddy(
    folder: Path, port: int, upstream: int, certificate: tuple[Path, Path], place: str
) -> list[str]:
    pem, key = certificate
    config = block(PAGE, "caddyfile", f"{NAME} {{")
    if place:
        config = f"{NAME} {{\n{place}}}\n"
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
