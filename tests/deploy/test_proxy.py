"""The proxies of docs/security.md: TLS, the page, streams piece by piece, what they keep away,
and all of it below a path. Skipped where the programs are missing."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.deploy.proxies import BELOW, KEY, NAME, Proxy, below_a_path, make_certificate, proxying
from tests.e2e.server import Server

WORDS, STEP_S = tuple(f"word{number}" for number in range(20)), 0.05


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    settings = {
        "api_keys": KEY,
        "allowed_hosts": NAME,
        "trusted_proxies": "loopback",
        "page": True,
    }
    with Server(engine="scripted", script_words=WORDS, script_step_s=STEP_S, **settings) as running:
        running.wait_for_line(re.compile("The page is at"))
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def program(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def proxy(
    program: str,
    server: Server,
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    with proxying(program, folder, server.port, certificate) as running:
        yield running


@pytest.fixture(scope="module")
def below(
    program: str,
    server: Server,
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Proxy]:
    folder = tmp_path_factory.mktemp("below")
    place = below_a_path(program)
    with proxying(program, folder, server.port, certificate, place) as running:
        yield running


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
        for path in ("/metrics/", "/metrics//", "//metrics", "/%6detrics", "/v1/metrics"):
            reply = client.get(f"{proxy.url}{path}")
            assert reply.status_code in (301, 308, 400, 403, 404), path
            assert "vlm_dlm_" not in reply.text, path
        assert client.post("/v1/generate", content=bytes(27 * 2**20)).status_code == 413
        assert client.get("/v1/models", headers={"Authorization": ""}).status_code == 401


def test_what_a_client_forges_does_not_pass_the_proxy(proxy: Proxy) -> None:
    forged = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "http",
        "X-Gradio-Server": "https://evil.example",
        "Forwarded": "host=evil.example",
    }
    with proxy.client() as client:
        for path in ("/", "/config", "/openapi.json"):
            reply = client.get(path, headers=forged)
            assert reply.status_code == 200, path
            assert "evil" not in reply.text, path
        assert client.get("/config", headers=forged).json()["root"] == f"https://{proxy.host}"


def test_below_a_path_all_is_there(below: Proxy) -> None:
    with below.client() as client:
        assert client.get(f"{BELOW}/v1/models").status_code == 200
        assert "vlm-dlm" not in client.get("/v1/models").text  # that is somebody else's place
        reply = client.post(f"{BELOW}/v1/generate", json={"prompt": "Go on."})
        assert reply.json()["text"].startswith(WORDS[0])
        assert client.get(f"{BELOW}/config").json()["root"] == f"https://{below.host}{BELOW}"
        assert client.get(f"{BELOW}/openapi.json").json()["servers"] == [{"url": BELOW}]
        assert client.get(f"{BELOW}/metrics").status_code == 403
        for path in ("/metrics/", "//metrics", f"{BELOW}/metrics", f"{BELOW}{BELOW}/metrics"):
            assert "vlm_dlm_" not in client.get(f"{below.url}{BELOW}{path}").text, path


def test_the_path_alone_leads_to_the_page(below: Proxy) -> None:
    with below.client() as client:
        reply = client.get(BELOW)
        assert reply.status_code in (301, 308)
        assert reply.headers["location"].endswith(f"{BELOW}/")
