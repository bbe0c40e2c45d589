"""Behind a proxy and below a path: what the server makes of it, over real connections."""

from __future__ import annotations

import time
from collections.abc import Generator

import httpx
import pytest

from tests.api.serving import LiveServer, PlayedEngine, live_server, until
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.http.auth import client_hash
from vlm_dlm_app.http.proxies import OWN_SEGMENTS
from vlm_dlm_app.main import create_app
from vlm_dlm_app.page.handlers import handlers
from vlm_dlm_app.page.paths import is_page_path
from vlm_dlm_app.settings.model import Settings

BODY = {"prompt": "Hello"}
FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server itself logged."""
    ours = [each for each in caplog.records if each.name.startswith("vlm_dlm_app")]
    return [each.getMessage() for each in ours]


@pytest.fixture(scope="module")
def below(checkpoint: Checkpoint) -> Generator[LiveServer]:
    """Below /vlm, and on this machine every proxy is believed."""
    settings = Settings(root_path="/vlm/", trusted_proxies=("loopback",))
    with live_server(checkpoint, settings) as running:
        yield running


def test_cookies_are_nobodys_work(checkpoint: Checkpoint) -> None:
    """Python before 3.11.10 takes seconds to read this one."""
    cookie = 'c="' + '\\"' * 31_000 + '"'
    with live_server(checkpoint, Settings()) as running:
        began_s = time.process_time()
        reply = running.http.get(f"{running.url}/health/live", headers={"Cookie": cookie})
    assert reply.status_code == 200
    assert time.process_time() - began_s < 2.0


@pytest.mark.parametrize("prefix", ["", "/vlm"])
@pytest.mark.parametrize(
    "path", ["/health", "/v1/models", "/v1/models/vlm-dlm", "/metrics", "/openapi.json"]
)
def test_a_proxy_may_take_the_prefix_off_or_leave_it(
    below: LiveServer, prefix: str, path: str
) -> None:
    assert below.http.get(f"{below.url}{prefix}{path}").status_code == 200


@pytest.mark.parametrize("prefix", ["", "/vlm"])
def test_it_writes_below_a_path(below: LiveServer, prefix: str) -> None:
    reply = below.http.post(f"{below.url}{prefix}/v1/generate", json=BODY)
    assert reply.status_code == 200
    assert reply.json()["text"]


@pytest.mark.parametrize("path", ["/vlmx/health", "/other/health", "/vlm/vlm2/health", "/vlm/nope"])
def test_other_paths_are_not_there(below: LiveServer, path: str) -> None:
    assert below.http.get(f"{below.url}{path}").status_code == 404


def test_the_prefix_alone_leads_to_its_page(below: LiveServer) -> None:
    reply = below.http.get(f"{below.url}/vlm?prompt=a%20b&x=%2F%2Fy")
    assert reply.status_code == 308
    assert reply.headers["location"] == "/vlm/?prompt=a%20b&x=%2F%2Fy"


def test_the_openapi_document_names_where_it_is(below: LiveServer) -> None:
    document = below.http.get(f"{below.url}/vlm/openapi.json").json()
    assert document["servers"] == [{"url": "/vlm"}]
    told = {"X-Forwarded-Prefix": "/apps/two/"}
    document = below.http.get(f"{below.url}/openapi.json", headers=told).json()
    assert document["servers"] == [{"url": "/apps/two"}]


def test_the_prefix_that_a_proxy_names_counts(below: LiveServer) -> None:
    told = {"X-Forwarded-Prefix": "/apps/two"}
    assert below.http.get(f"{below.url}/v1/models", headers=told).status_code == 200
    assert below.http.get(f"{below.url}/vlm/v1/models", headers=told).status_code == 404


@pytest.mark.parametrize("path", ["/vlm/metrics", "/vlm/health", "/vlm/v1/models", "/vlm"])
def test_a_prefix_is_never_taken_off_twice(below: LiveServer, path: str) -> None:
    told = {"X-Forwarded-Prefix": "/vlm"}
    assert below.http.get(f"{below.url}{path}", headers=told).status_code == 404
    assert below.http.get(f"{below.url}/vlm{path}").status_code == 404


def test_the_log_and_turns_know_the_client_behind_the_proxy(
    below: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for address in ("203.0.113.9", "203.0.113.8"):
        headers = {"X-Forwarded-For": f"6.6.6.6, {address}"}
        below.http.post(f"{below.url}/vlm/v1/generate", json=BODY, headers=headers)
    for address in ("203.0.113.9", "203.0.113.8"):
        own = f"client={client_hash(address)}"
        for kind in ("cause=", "path=/v1/generate"):
            until(lambda own=own, kind=kind: any(own in x and kind in x for x in lines(caplog)))


def test_probes_below_a_path_are_as_quiet(
    below: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    below.http.get(f"{below.url}/vlm/health/ready")
    below.http.get(f"{below.url}/vlm/v1/models")
    until(lambda: any("/v1/models" in line for line in lines(caplog)))
    assert not [line for line in lines(caplog) if "health" in line]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("vlm.example.org", "https://vlm.example.org", 200),
        ("vlm.example.org:8443", "https://vlm.example.org:8443", 200),
        ("vlm.example.org", "https://evil.example", 403),
        ("evil.example", "https://evil.example", 403),
    ],
)
def test_the_host_that_visitors_see_is_what_is_checked(
    checkpoint: Checkpoint, host: str, origin: str, status: int
) -> None:
    settings = Settings(trusted_proxies=("127.0.0.1",), allowed_hosts=("vlm.example.org",))
    headers = {"X-Forwarded-Host": host, "Origin": origin}
    with live_server(checkpoint, settings) as running:
        reply = running.http.post(f"{running.url}/v1/generate", json=BODY, headers=headers)
    assert reply.status_code == status


@pytest.mark.parametrize(
    ("told", "scheme", "status"),
    [
        ("https", "https", 200),
        ("https", "http", 403),
        ("http", "http", 200),
        ("", "https", 200),
        ("", "x", 403),
    ],
)
def test_pages_of_another_scheme_are_foreign(
    below: LiveServer, told: str, scheme: str, status: int
) -> None:
    headers = {"Origin": f"{scheme}://127.0.0.1:{below.port}"}
    headers |= {"X-Forwarded-Proto": told} if told else {}
    reply = below.http.post(f"{below.url}/v1/generate", json=BODY, headers=headers)
    assert reply.status_code == status


@pytest.mark.parametrize("settings", [{}, {"trusted_proxies": ("10.0.0.0/8", "unix")}])
def test_forged_headers_change_nothing(
    checkpoint: Checkpoint, settings: dict[str, tuple[str, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with live_server(checkpoint, Settings.model_validate(settings)) as running:

        def ask(headers: dict[str, str], path: str = "/openapi.json") -> httpx.Response:
            return running.http.get(running.url + path, headers=headers)

        assert ask(FORGED).content == ask({}).content
        assert ask(FORGED, "/evil/health").status_code == 404
        origin = {"Origin": "https://evil.example"}
        reply = running.http.post(
            f"{running.url}/v1/generate", json=BODY, headers={**FORGED, **origin}
        )
        assert reply.status_code == 403
        running.http.post(f"{running.url}/v1/generate", json=BODY, headers=FORGED)
    assert [line for line in lines(caplog) if f"client={client_hash('127.0.0.1')}" in line]
    assert not [line for line in lines(caplog) if f"client={client_hash('203.0.113.9')}" in line]


def test_no_address_of_the_server_can_be_taken_for_a_prefix(checkpoint: Checkpoint) -> None:
    app = create_app(Settings(), PlayedEngine(), checkpoint, has_page=True)
    paths = [getattr(route, "path", "") for route in app.routes]
    own = {path.split("/")[1] for path in paths if path}
    own |= {path.split("/")[1] for path in app.openapi()["paths"]}
    own |= {handler.template.split("/")[1] for handler in handlers(has_mcp=True)}
    own.add("openapi.json")  # not in the document, which it is
    assert own - {""} == OWN_SEGMENTS
    for name in ("gradio_api/info", "assets/a", "static/a", "config", "theme.css"):
        assert is_page_path(f"/{name}")
        assert name.split("/")[0] in OWN_SEGMENTS
