"""MCP is off unless it is asked for, and asking for it without its package is said at the start.
With it, the protocol's own client finds and calls every endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import httpx
import pytest

from tests.e2e.server import ROOT, Server
from tests.integration.app.page_tab import wait_for_page
from vlm_dlm.errors import BadInputError
from vlm_dlm_app.page.mount import check_extras
from vlm_dlm_app.page.paths import is_page_path
from vlm_dlm_app.settings.model import Settings

ADDRESS = "/gradio_api/mcp/"
KEY = "a-key"
NAMES = ["modes", "generate", "compare", "chat", "sweep", "report"]
needs_mcp = pytest.mark.skipif(
    find_spec("mcp") is None, reason="the package mcp is not installed: pip install 'vlm-dlm[mcp]'"
)


def test_it_is_off_by_default() -> None:
    with Server(page=True, engine="scripted") as server:
        wait_for_page(server)
        with pytest.raises(HTTPError, match="404"):
            server.get(ADDRESS)


def test_its_addresses_exist_only_with_it() -> None:
    assert not is_page_path(ADDRESS)
    assert is_page_path(ADDRESS, has_mcp=True)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_dlm_app.page.mount.find_spec", lambda name: None)
    check_extras(Settings())
    with pytest.raises(BadInputError, match=r"pip install 'vlm-dlm\[mcp\]'"):
        check_extras(Settings(page_mcp=True))


@pytest.mark.skipif(find_spec("mcp") is not None, reason="the package is installed")
def test_the_server_does_not_start_without_it() -> None:
    with (
        pytest.raises(RuntimeError, match="setting page_mcp needs"),
        Server(page=True, page_mcp=True, engine="scripted"),
    ):
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """With keys, below a path."""
    settings = {"page": True, "page_mcp": True, "api_keys": KEY, "root_path": "/vlm"}
    with Server(**settings) as running:
        running.wait_for_line(re.compile("The page is at"))
        yield running


@pytest.fixture(scope="module")
def image() -> str:
    data = (ROOT / "assets" / "examples" / "shapes.png").read_bytes()
    return "data:image/png;base64," + base64.b64encode(data).decode()


def called(server: Server, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """What tools give, after the list of them; by one client, one after another."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def run() -> list[Any]:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            httpx.AsyncClient(headers=headers, timeout=60) as http,
            streamable_http_client(f"{server.base_url}/vlm{ADDRESS}", http_client=http) as (
                r,
                w,
                _,
            ),
            ClientSession(r, w) as session,
        ):
            await session.initialize()
            found: list[Any] = [(await session.list_tools()).tools]
            for name, arguments in calls:
                found.append(await session.call_tool(name, arguments))
            return found

    return asyncio.run(run())


@needs_mcp
def test_tools_and_all_they_take_are_described(server: Server) -> None:
    (tools,) = called(server)
    assert [tool.name for tool in tools] == NAMES
    by_name = {tool.name: tool for tool in tools}
    for tool in tools:
        assert "Gives: " in tool.description, tool.name
        assert len(tool.description) > 80, tool.name
        assert tool.inputSchema["type"] == "object"
        for name, field in tool.inputSchema["properties"].items():
            assert field["description"][0].isupper(), (tool.name, name)
    taken = by_name["generate"].inputSchema
    assert taken["required"] == ["prompt"]
    assert set(taken["properties"]) == {"prompt", "image", "mode", "options"}
    assert "linear_spec, quadratic_spec" in taken["properties"]["mode"]["description"]
    assert "Never the path" in taken["properties"]["image"]["description"]
    options = taken["properties"]["options"]["properties"]
    assert options["max_tokens"]["type"] == "integer"
    assert all(option["description"] for option in options.values())
    assert {"threshold", "seed", "stop"} < set(options)


@needs_mcp
def test_results_are_json_objects(server: Server, image: str) -> None:
    few = {"max_tokens": 4}
    messages = [{"role": "user", "content": "How many stars?"}]
    _, *results = called(
        server,
        ("modes", {}),
        ("generate", {"prompt": "Describe.", "image": image, "mode": "ar", "options": few}),
        ("compare", {"prompt": "Describe.", "image": image, "modes": ["ar"], "options": few}),
        ("chat", {"messages": messages, "options": few}),
        ("sweep", {"prompt": "Hello", "thresholds": [0.9], "block_lengths": [8], "max_tokens": 4}),
    )
    for result in results:
        assert not result.isError, result.content
        assert json.loads(result.content[0].text) == result.structuredContent
    modes, generated, compared, chat, sweep = (result.structuredContent for result in results)
    assert modes["modes"][0]["name"] == "ar"
    assert generated["usage"]["completion_tokens"] == 4
    assert generated["usage"]["prompt_tokens_details"]["image_tokens"] > 0
    assert compared["results"][0]["mode"] == "ar"
    assert chat["choices"][0]["message"]["role"] == "assistant"
    assert sweep["points"][0]["threshold"] == 0.9


@needs_mcp
def test_a_server_opens_nothing_that_a_tool_is_given(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((ROOT / "assets" / "examples" / "shapes.png").read_bytes())
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    sources = (str(secret), secret.as_uri(), "http://127.0.0.1:1/a.png", file, [str(secret)])
    _, *results = called(
        server, *(("generate", {"prompt": "Describe.", "image": each}) for each in sources)
    )
    texts = [result.content[0].text for result in results]
    assert all(result.isError for result in results)
    assert "must be a data URI" in texts[0]
    assert "must be a data URI" in texts[1]
    assert "does not fetch images" in texts[2]
    assert all("image" in text for text in texts[3:])
    assert "Traceback" not in server.log


@needs_mcp
def test_an_uploaded_picture_is_taken_by_its_name(server: Server) -> None:
    data = (ROOT / "assets" / "examples" / "shapes.png").read_bytes()
    headers = {"Authorization": f"Bearer {KEY}"}
    reply = httpx.post(
        f"{server.base_url}/gradio_api/upload", files={"files": ("a.png", data)}, headers=headers
    )
    (path,) = reply.json()
    few = {"max_tokens": 4}
    asked = {"prompt": "Describe.", "mode": "ar", "options": few}
    _, taken, gone = called(
        server,
        ("generate", {**asked, "image": path}),
        ("generate", {**asked, "image": path[:-8] + "0000.png"}),
    )
    assert taken.structuredContent["usage"]["prompt_tokens_details"]["image_tokens"] > 0
    assert gone.isError
    assert "no uploaded picture" in gone.content[0].text


@needs_mcp
@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("generate", {}, "prompt is required"),
        ("generate", {"prompt": "x", "top": 1}, "top is not known"),
        ("generate", {"prompt": "x", "mode": "warp"}, "unknown mode 'warp'; the modes"),
        ("generate", {"prompt": "x", "options": {"seed": "a"}}, "options.seed"),
        ("nothing", {}, "there is no tool 'nothing'; there are modes, generate"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    server: Server, name: str, arguments: dict[str, Any], sentence: str
) -> None:
    _, result = called(server, (name, arguments))
    assert result.isError
    assert sentence in result.content[0].text.lower()
    assert "Traceback" not in server.log


@needs_mcp
def test_the_transport_keeps_nothing_open(server: Server) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "text/event-stream"}
    with httpx.Client(headers=headers, timeout=10) as client:
        assert client.get(server.base_url + ADDRESS).status_code == 405
        assert client.post(server.base_url + ADDRESS, json=[1, 2]).status_code in (400, 406)
    assert httpx.post(server.base_url + ADDRESS, json={}).status_code == 401
    assert "Traceback" not in server.log


@needs_mcp
@pytest.mark.parametrize(
    ("body", "status", "code", "sentence"),
    [
        (b'{"method": "\xff"}', 400, -32700, "not valid JSON in UTF-8"),
        (b"{", 400, -32700, "not valid JSON"),
        (b'{"id": NaN}', 400, -32700, "not valid JSON"),
        (b'{"a": 1}', 400, -32600, "jsonrpc is required"),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "x"}', 400, -32600, "id"),
        (b'{"jsonrpc": "2.0", "method": 1}', 400, -32600, "method"),
        (b'{"jsonrpc": "2.0", "method": "x", "params": []}', 400, -32600, "params"),
        (
            b'{"jsonrpc": "2.0", "method": "x", "id": "' + b"x" * 70_000 + b'"}',
            413,
            -32600,
            "arguments of a tool alone",
        ),
    ],
)
def test_what_is_no_message_is_said_as_clients_read_it(
    server: Server, body: bytes, status: int, code: int, sentence: str
) -> None:
    accepts = "application/json, text/event-stream"
    headers = {"Authorization": f"Bearer {KEY}", "Accept": accepts}
    headers["Content-Type"] = "application/json"
    reply = httpx.post(server.base_url + ADDRESS, content=body, headers=headers)
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == code
    assert sentence in reply.json()["error"]["message"]
    assert "Traceback" not in server.log
