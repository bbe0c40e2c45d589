"""The image that tests/deploy/build_image.sh made, run as docker-compose.yml says."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from tests.deploy.run_image import measure
from tests.deploy.tools import find_tool

IMAGE = "localhost/vlm-dlm:0.1.0-cpu"


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    for tool in ("buildah", "docker-compose", "ip", "nsenter", "setpriv", "unshare"):
        find_tool(tool)
    if os.geteuid() != 0:
        pytest.skip("only root may make namespaces and mount")
    inspected = subprocess.run(
        ["buildah", "inspect", "--type", "image", IMAGE], capture_output=True
    )
    if inspected.returncode:
        pytest.skip(f"{IMAGE} has not been built; tests/deploy/build_image.sh does")
    return measure(IMAGE)


def test_it_is_healthy_in_time_and_ends_in_order(figures: dict[str, Any]) -> None:
    assert figures["healthy_s"] < 60
    assert figures["exit_code"] == 0
    assert figures["peak_memory_bytes"] < 2 * 2**30


def test_it_answers_in_every_mode_and_shows_its_page(figures: dict[str, Any]) -> None:
    inside = figures["inside"]
    assert set(inside["texts"]) == {"ar", "diffusion", "linear_spec", "quadratic_spec"}
    assert inside["texts"]["linear_spec"] == inside["texts"]["ar"] != ""
    assert (inside["page"], inside["metrics_of_prometheus"]) == (200, 200)
    assert inside["foreign_host"] == 403


def test_it_is_confined(figures: dict[str, Any]) -> None:
    inside = figures["inside"]
    assert (inside["user"], inside["capabilities"], inside["no_new_privileges"]) == (10001, 0, 1)
    assert inside["writable"] == ["/tmp"]


def test_it_starts_from_the_hub_cache_without_a_network(figures: dict[str, Any]) -> None:
    assert figures["from_hub_cache"]["texts"] == figures["inside"]["texts"]
