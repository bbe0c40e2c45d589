"""Servers that tests share, because starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.endless import write_endless_checkpoint
from tests.e2e.server import Server

NUM_PLACES = 4
WORDS = tuple(f"word{number}" for number in range(60))


@pytest.fixture(scope="session")
def endless_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, but its answers run to `max_tokens`. Read only."""
    return write_endless_checkpoint(tmp_path_factory.mktemp("endless"))


@pytest.fixture(scope="session")
def model_server(endless_checkpoint: Path) -> Iterator[Server]:
    """A real model behind a real server; runs NUM_PLACES requests at once. Leave it ready and
    without requests."""
    with Server(model=endless_checkpoint, max_running=NUM_PLACES, spare_engine=True) as server:
        yield server


@pytest.fixture
def scripted_server() -> Iterator[Server]:
    """A server of one's own, to be ended in any way; answers are 60 words in about 2 s."""
    with Server(
        engine="scripted", script_words=WORDS, script_step_s=0.035, max_running=32
    ) as server:
        yield server
