"""A real Prometheus takes our rules, scrapes a real server and answers every panel's query."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tools import ROOT, find_tool
from tests.e2e.server import Server
from vlm_dlm import MODES

PORT = 19090
PANELS: list[dict[str, Any]] = json.loads(
    (ROOT / "deploy/grafana/dashboards/vlm-dlm.json").read_text(encoding="utf-8")
)["panels"]
# Nothing was refused, nobody left, no picture was asked about.
EMPTY = {"Refusals per second", "Broken off and left, per second", "Images: time to encode"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Of a Prometheus that has scraped a server before and after it answered in all modes."""
    program = find_tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    with Server() as server:
        command = [program, f"--config.file={configure(folder, server.port)}"]
        command += [f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{PORT}"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        base = f"http://127.0.0.1:{PORT}"
        try:
            wait_for(base, "count_over_time(vlm_dlm_engine_ready[1m]) > 1")
            for mode in MODES:
                ask(server, mode)
            ask(server, "ar")  # found in the prompt cache
            wait_for(base, "count_over_time(vlm_dlm_request_success_total[1m]) > 4")
            yield base
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_every_query_has_an_answer(panel: dict[str, Any], address: str) -> None:
    for target in panel["targets"]:
        query = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "30s")
        values = [float(row["value"][1]) for row in ask_prometheus(address, query)]
        assert panel["title"] in EMPTY or any(value == value for value in values), query


def test_rules_are_loaded_and_none_fires(address: str) -> None:
    groups = get(f"{address}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 6
    assert {(rule["health"], rule["state"]) for rule in rules} <= {
        ("ok", "inactive"),
        ("unknown", "inactive"),
    }


def configure(folder: Path, port: int) -> Path:
    """Our own configuration, with another target and less patience."""
    own = ROOT / "deploy" / "prometheus"
    whole = yaml.safe_load((own / "prometheus.yml").read_text(encoding="utf-8"))
    whole["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    whole["rule_files"] = [str(own / "rules.yml")]
    whole["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return path


def ask(server: Server, mode: str) -> None:
    body = {"prompt": "Describe the image.", "mode": mode, "options": {"max_tokens": 32}}
    request = urllib.request.Request(
        f"{server.base_url}/v1/generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 200


def wait_for(base: str, query: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if ask_prometheus(base, query):
                return
        except OSError:
            pass  # it is starting
        assert time.monotonic() < deadline, query
        time.sleep(0.5)


def ask_prometheus(base: str, query: str) -> list[dict[str, Any]]:
    whole = get(f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    assert whole["status"] == "success", query
    return whole["data"]["result"]


def get(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=10) as reply:
        return json.load(reply)
