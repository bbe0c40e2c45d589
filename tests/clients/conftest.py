"""One server for all clients, and what it answers by its own address."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.clients.environments import (
    ASKED_BY,
    Client,
    UnavailableError,
    is_asked_for,
    variables,
)
from tests.clients.recipes import Kitchen
from tests.e2e.server import ROOT, Server

PICTURE = ROOT / "assets" / "examples" / "shapes.png"
QUESTION = "How many objects are there?"
ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Answers:
    """To QUESTION, by /v1/generate: alone, and about PICTURE in the mode `diffusion`."""

    to_text: str
    to_picture: str


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The embedded model, as `vlm-dlm serve` runs it. Leave it idle."""
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def answers(server: Server) -> Answers:
    def ask(**fields: object) -> str:
        body = {"prompt": QUESTION, **fields}
        reply = httpx.post(f"{server.base_url}/v1/generate", json=body, timeout=ANSWER_S)
        return reply.raise_for_status().json()["text"]

    uri = f"data:image/png;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}"
    return Answers(ask(), ask(images=[uri], mode="diffusion"))


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    """By indirect parameters. Skips what is heavy and was not asked for."""
    found: Client = request.param
    if found.is_heavy and not is_asked_for(found):
        pytest.skip(f"heavy: `make clients`, or {ASKED_BY}={found.name}")
    return found


@pytest.fixture
def kitchen(client: Client, server: Server, tmp_path: Path) -> Kitchen:
    """Skips clients that cannot be installed, unless they were asked for."""
    (tmp_path / PICTURE.name).write_bytes(PICTURE.read_bytes())
    try:
        environment = variables(client, tmp_path)
    except UnavailableError as error:
        if is_asked_for(client):
            raise
        pytest.skip(str(error))
    return Kitchen(client, server.base_url, tmp_path, environment)
