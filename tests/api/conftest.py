"""One server for all tests of the API; each test says what its engine plays."""

from __future__ import annotations

from collections.abc import Generator

import openai
import pytest

from tests.api.serving import LiveServer, live_server, until
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.preflight import Checkpoint, open_checkpoint

WORDS = ("There ", "is ", "one ", "red ", "circle.")


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    """The embedded one: its tokenizer, template and picture sizes, not its weights."""
    return open_checkpoint()


@pytest.fixture(scope="session")
def shared_server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    with live_server(checkpoint) as running:
        yield running


@pytest.fixture
def server(shared_server: LiveServer) -> Generator[LiveServer]:
    """The shared server, playing `WORDS`; nothing may be left when the test is over."""
    shared_server.engine.play(Script(WORDS))
    yield shared_server
    until(lambda: shared_server.is_idle)


@pytest.fixture
def client(server: LiveServer) -> Generator[openai.OpenAI]:
    with server.client() as made:
        yield made
