"""MCP is off unless it is asked for, and asking for it without its package is said at the start."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.error import HTTPError

import pytest

from tests.e2e.server import Server
from tests.integration.app.page_tab import wait_for_page
from vlm_dlm.errors import BadInputError
from vlm_dlm_app.page.extras import check_extras
from vlm_dlm_app.page.paths import is_page_path
from vlm_dlm_app.settings import Settings

SCHEMA = "/gradio_api/mcp/schema"


def test_it_is_off_by_default() -> None:
    with Server(page=True, engine="scripted") as server:
        wait_for_page(server)
        with pytest.raises(HTTPError, match="404"):
            server.get(SCHEMA)


def test_its_addresses_exist_only_with_it() -> None:
    assert not is_page_path(SCHEMA)
    assert is_page_path(SCHEMA, has_mcp=True)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_dlm_app.page.extras.find_spec", lambda name: None)
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


@pytest.mark.skipif(find_spec("mcp") is None, reason="the package is not installed")
def test_switched_on_it_lists_the_endpoints() -> None:
    with Server(page=True, page_mcp=True, engine="scripted") as server:
        wait_for_page(server)
        schema = server.get(SCHEMA)
    assert all(name in schema for name in ("modes", "generate", "compare", "chat", "sweep"))
