"""What the dashboard and the alerts ask for is what the server exposes, labels included."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.api.serving import PlayedEngine
from tests.deploy.tools import find_tool, run
from vlm_dlm.events import Stats
from vlm_dlm.preflight import open_checkpoint
from vlm_dlm_app.main import create_app
from vlm_dlm_app.settings.model import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads(
    (DEPLOY / "grafana/dashboards/vlm-dlm.json").read_text(encoding="utf-8")
)
RULES: dict[str, Any] = yaml.safe_load(
    (DEPLOY / "prometheus/rules.yml").read_text(encoding="utf-8")
)
SCRAPED = {"instance", "job"}  # labels that Prometheus adds
WANTED = (
    *("time_to_first_token_seconds", "request_time_per_output_token_seconds"),
    *("num_requests_waiting", "request_queue_time_seconds", "num_requests_running"),
    *("request_tokens_per_forward", "spec_decode_num_accepted_tokens", "prefix_cache_hits"),
    *("admission_rejections", "engine_restarts"),
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [
    *((panel["title"], t["expr"], t["legendFormat"]) for panel in PANELS for t in panel["targets"]),
    *(
        (rule["alert"], rule["expr"], rule["annotations"]["summary"].replace("$labels.", ""))
        for group in RULES["groups"]
        for rule in group["rules"]
    ),
]


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Names of the samples of /metrics and their labels, once everything has been counted."""
    app = create_app(Settings(), PlayedEngine(), open_checkpoint())
    metrics = app.state.services.metrics
    metrics.count_start("ar", 1, 0.1)
    metrics.count_tokens("ar", 1, 0.1, 0.0)
    metrics.count_tokens("ar", 1, None, 0.1)
    metrics.count_answer("ar", "stop", _stats(), 0.1)
    metrics.count_refusal("queue_full")
    metrics.count_failure("ar", "engine_error")
    metrics.count_abort("decode")

    async def ask() -> str:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get("/metrics")).text

    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(asyncio.run(ask()))
        for sample in family.samples
    }


@pytest.mark.parametrize(("title", "query", "legend"), QUERIES)
def test_query_asks_for_what_there_is(
    title: str, query: str, legend: str, exposed: dict[str, set[str]]
) -> None:
    names = re.findall(r"\bvlm_dlm_\w+", query)
    assert names or "up{" in query, title
    used = {
        *re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query),
        *(
            name.strip()
            for part in re.findall(r"by \(([^)]*)\)", query)
            for name in part.split(",")
        ),
        *re.findall(r"{{\s*(\w+)\s*}}", legend),
    }
    for name in names:
        assert name in exposed
        assert used <= exposed[name] | SCRAPED


def test_dashboard_shows_what_it_is_for() -> None:
    whole = " ".join(query for _, query, _ in QUERIES)
    assert all(f"vlm_dlm_{name}" in whole for name in WANTED)


def test_panels_lie_beside_each_other_and_ask_the_provisioned_source() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells |= own
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    sources = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )["datasources"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"] for source in sources}


def test_prometheus_takes_its_files() -> None:
    run(find_tool("promtool"), "check", "config", "deploy/prometheus/prometheus.yml")


def _stats() -> Stats:
    """Of an answer with everything that is counted."""
    return Stats(
        num_prompt_tokens=8,
        num_image_tokens=4,
        num_tokens=4,
        num_forwards=2,
        num_rows=8,
        queue_s=0.1,
        vision_s=0.1,
        prefill_s=0.1,
        decode_s=0.1,
        ttft_s=0.1,
        acceptance_lengths=(2,),
        is_prompt_reused=False,
        forwards_by_kind={"denoise": 1, "verify": 1},
        num_draft_tokens=3,
    )
