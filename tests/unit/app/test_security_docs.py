"""Figures that docs/security.md, operate.md and serving.md give are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_dlm.checkpoint.resolve import DATA_FILES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.serving.pictures.decode_worker import ChildLimits
from vlm_dlm_app.http import json_shape, multipart
from vlm_dlm_app.http.auth import OPEN_PATHS
from vlm_dlm_app.http.idempotency import MAX_STORED_BYTES
from vlm_dlm_app.http.middleware.gate import LOOPBACK_NAMES, is_loopback
from vlm_dlm_app.media.fetcher import FetchPolicy
from vlm_dlm_app.schemas import bounds, messages
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.wire import framing
from vlm_dlm_app.wire.protocol import BoundedProtocol
from vlm_dlm_app.wire.request_head import MAX_HEAD_BYTES

DOCS = Path(__file__).resolve().parents[3] / "docs"
SECURITY, OPERATE, SERVING = (
    " ".join((DOCS / name).read_text(encoding="utf-8").split())
    for name in ("security.md", "operate.md", "serving.md")
)
CHILD, FETCH, ENGINE = ChildLimits(), FetchPolicy(), EngineConfig()


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {CHILD.memory_bytes >> 30} GiB of address space",
        f"{CHILD.cpu_s} seconds of processor and {CHILD.wall_s:g} of time",
        f"at most {FETCH.max_redirects} redirects",
        f"{FETCH.connect_s:g} seconds to connect, {FETCH.total_s:g} in all",
        f"{FETCH.max_concurrent} requests at once and {FETCH.max_concurrent // 2} of one client",
        f"headers ({MAX_HEAD_BYTES >> 10} KiB, {BoundedProtocol.head_s:g} s)",
        f"encoded pictures ({ENGINE.num_kept_features}) and prompts of comparisons "
        f"({ENGINE.num_kept_prompts})",
        f"Only {', '.join(f'`{name}`' for name in DATA_FILES[:-1])} and `{DATA_FILES[-1]}`",
    ],
)
def test_security(sentence: str) -> None:
    assert sentence in SECURITY


@pytest.mark.parametrize(
    "sentence",
    [
        f"`max_running`, {ENGINE.max_running} at most",
        f"`max_cache_tokens`, {ENGINE.max_cache_tokens} where",
        f"{MAX_STORED_BYTES >> 20} MiB together",
        f"{ENGINE.num_kept_features} encoded pictures, {ENGINE.num_kept_prompts} prompts",
    ],
)
def test_operate(sentence: str) -> None:
    assert sentence in OPERATE


def test_what_is_open_without_a_key_and_what_is_off() -> None:
    named = ("/version", "/openapi.json")
    assert all("health" in path or path in named for path in OPEN_PATHS)
    assert all(f"`{path}`" in SECURITY for path in named)
    settings = Settings()
    assert is_loopback(settings.host)
    assert settings.host in LOOPBACK_NAMES
    assert not settings.api_keys
    assert not settings.allow_image_urls
    assert not settings.allow_origins
    assert "`upload_s` at most" in SECURITY


@pytest.mark.parametrize(
    "row",
    [
        f"| {json_shape.MAX_PARTS:,} | values and names of fields",
        f"| {json_shape.MAX_CONTAINERS:,} | lists and objects",
        f"| {bounds.MAX_ENTRIES} | entries of one list, {bounds.MAX_FIELDS} fields of one object |",
        f"| {messages.MAX_PARTS} | parts of all messages",
        f"| {multipart.MAX_PARTS} | parts of a form, with {multipart.MAX_PART_HEADERS} headers and "
        f"{multipart.MAX_HEADER_BYTES >> 10} KiB of them each |",
        f"| {framing.MAX_SMALL_CHUNKS} | chunks of less than {framing.SMALL_CHUNK_BYTES} bytes",
    ],
)
def test_bodies(row: str) -> None:
    assert row in SERVING
