"""Marks from folders (a test under `tests/unit` is `unit`, and so on), and shared fixtures."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.turns import Turn

# An example may take long on a busy machine; what a test means to bound it measures itself.
settings.register_profile("default", settings.get_profile("default"), deadline=None)
settings.load_profile("default")

IS_ONE_OF_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ
if IS_ONE_OF_SEVERAL:  # here and in the processes that tests start: a core for each worker
    os.environ.setdefault("OMP_NUM_THREADS", "1")

TURN = Turn()
TIERS = ("unit", "integration", "api", "e2e", "gpu", "weights", "browser", "vllm", "clients")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(root):
            continue
        folder = item.path.relative_to(root).parts[0]
        if folder in TIERS:
            item.add_marker(getattr(pytest.mark, folder))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several workers; without them, nothing is imported."""
    from tests.scheduling import ByServer

    return ByServer(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    if not IS_ONE_OF_SEVERAL:
        return (yield)
    TURN.begin(_is_alone(item))
    try:
        return (yield)
    finally:
        TURN.end(is_next_alone=_is_alone(nextitem))


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint folder with random weights. Read only."""
    from tests.checkpoints import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of one held-out scene."""
    from vlm_dlm.scenes.samples import make_sample

    path = tmp_path_factory.mktemp("images") / "scene.png"
    make_sample(0, "heldout").image.resize((112, 84)).save(path)
    return path
