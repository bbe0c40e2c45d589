"""The About view names what programs can call, and no more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vlm_dlm.engine.scripted_engine import ScriptedEngine
from vlm_dlm_app.page.about import ENDPOINTS, about_text
from vlm_dlm_app.page.endpoints import NAMES
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.state import Services


def about(**changes: Any) -> str:
    settings = Settings(**changes)
    checkpoint = SimpleNamespace(processor=SimpleNamespace(reads_images=True))
    services = SimpleNamespace(engine=ScriptedEngine(), settings=settings, checkpoint=checkpoint)
    return about_text(cast("Services", services))


def test_every_endpoint_is_named() -> None:
    assert set(ENDPOINTS) == set(NAMES)
    assert all(f"- `/{name}`: " in about() for name in NAMES)


@pytest.mark.parametrize(
    ("changes", "words", "other"),
    [
        ({}, "`--page-mcp` switches it on", "YOUR_KEY"),
        ({"page_mcp": True}, "on, at `/gradio_api/mcp/`", "--page-mcp"),
        ({"api_keys": ["a" * 40]}, "Bearer YOUR_KEY", "a" * 40),
    ],
)
def test_it_says_how_this_server_is_called(changes: dict[str, Any], words: str, other: str) -> None:
    text = about(**changes)
    assert words in text
    assert other not in text
