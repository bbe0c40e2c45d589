"""The OpenAPI document against the server: requests made from it, right and wrong ones, get only
answers that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.api.serving import LiveServer, live_server, until
from vlm_dlm.preflight import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
MAX_EXAMPLES = 30  # of each operation, beside those that cover its schema one by one
LIMIT_S = 300.0
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "negative_data_rejection",
)


@pytest.fixture
def own_server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    """What these requests leave behind must not meet other tests."""
    with live_server(checkpoint) as running:
        yield running


def test_every_answer_is_one_that_the_document_names(
    own_server: LiveServer, tmp_path: Path
) -> None:
    options = {
        "checks": ",".join(CHECKS),
        "phases": "examples,coverage,fuzzing",
        "max-examples": str(MAX_EXAMPLES),
        "seed": "1",
        "generation-database": "none",
        "suppress-health-check": "all",
        "request-timeout": "20",
        "warnings": "off",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{own_server.url}/openapi.json"),
            *("--no-color", "--continue-on-failure", "--no-shrink", *flags),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    found = re.search(r"([0-9]+) generated", report)
    assert found, report
    assert int(found[1]) > 1000, report
    until(lambda: own_server.is_idle)
