"""docker-compose.yml as a compose binary reads it, in every combination of profiles."""

from __future__ import annotations

import json
import os
import re
from itertools import combinations
from typing import Any

import pytest

from tests.deploy.tools import ROOT, find_tool, run
from vlm_dlm_app.settings.sources import load_settings

PROFILES = ("gpu", "observability")
CASES = [case for n in range(len(PROFILES) + 1) for case in combinations(PROFILES, n)]
SERVICES = {"gpu": {"gpu"}, "observability": {"prometheus", "grafana"}}
PUBLISHED = {"server", "gpu", "grafana"}


def read(profiles: tuple[str, ...] = PROFILES, **variables: str) -> dict[str, Any]:
    """The file with everything filled in, by nothing but these variables."""
    flags = [part for profile in profiles for part in ("--profile", profile)]
    env = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", **variables}
    command = (find_tool("docker-compose"), *flags, "--file", "docker-compose.yml", "config")
    return json.loads(run(*command, "--format", "json", env=env))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return read()["services"]


@pytest.mark.parametrize("profiles", CASES, ids="+".join)
def test_each_profile_adds_its_services(profiles: tuple[str, ...]) -> None:
    wanted = {"server"}.union(*(SERVICES[profile] for profile in profiles))
    assert set(read(profiles)["services"]) == wanted


def test_every_service_is_confined(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert not {"privileged", "cap_add", "network_mode", "user"} & set(service), name


def test_every_service_has_at_most_one_port_on_loopback(services: dict[str, Any]) -> None:
    taken = [port for service in services.values() for port in service.get("ports", [])]
    assert {name for name, service in services.items() if service.get("ports")} == PUBLISHED
    assert len(taken) == len(PUBLISHED)
    assert {port["host_ip"] for port in taken} == {"127.0.0.1"}
    assert len({port["published"] for port in taken}) == len(taken)


def test_foreign_images_are_pinned_by_digest(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "build" not in service:
            assert re.fullmatch(r"\S+:v?[0-9.]+@sha256:[0-9a-f]{64}", service["image"]), name


@pytest.mark.parametrize("name", ["server", "gpu"])
def test_settings_are_taken_and_the_end_is_waited_for(name: str, services: dict[str, Any]) -> None:
    settings = load_settings(environment=services[name]["environment"])
    assert seconds(services[name]["stop_grace_period"]) > settings.drain_s + 5
    assert settings.allowed_hosts == ("server", "gpu")
    assert not settings.api_keys
    assert settings.device == {"server": "cpu", "gpu": "cuda"}[name]


def test_readiness_is_checked_with_patience_that_suits_the_model(services: dict[str, Any]) -> None:
    for name, start_s in {"server": 60, "gpu": 3600}.items():
        check = services[name]["healthcheck"]
        assert "/health/ready" in check["test"][-1], name
        assert seconds(check["start_period"]) == start_s, name


def test_the_server_needs_no_network_and_the_gpu_keeps_what_it_fetched(
    services: dict[str, Any],
) -> None:
    assert services["server"]["environment"]["HF_HUB_OFFLINE"] == "1"
    gpu = services["gpu"]
    assert [(v["type"], v["source"], v["target"]) for v in gpu["volumes"]] == [
        ("volume", "hub", "/cache")
    ]
    assert gpu["environment"]["HF_TOKEN_PATH"] == f"/run/secrets/{gpu['secrets'][0]['source']}"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])


def test_what_a_user_sets_arrives() -> None:
    whole = read(
        VLM_DLM_API_KEYS="one,two",
        VLM_DLM_ALLOWED_HOSTS="demo.example",
        VLM_DLM_PORT="9000",
        VLM_DLM_MODEL="org/other@abc",
        VLM_DLM_QUANTIZE="int4",
        HF_HUB_OFFLINE="1",
        HF_TOKEN_FILE="/home/me/token",
    )
    server, gpu = whole["services"]["server"], whole["services"]["gpu"]
    settings = load_settings(environment=gpu["environment"])
    assert len(settings.api_keys) == 2
    assert settings.allowed_hosts == ("server", "gpu", "demo.example")
    assert settings.model == "org/other@abc"
    assert settings.quantize == "int4"
    assert server["ports"][0]["published"] == "9000"
    assert gpu["environment"]["HF_HUB_OFFLINE"] == "1"
    assert whole["secrets"]["hf_token"]["file"] == "/home/me/token"


def test_docs_list_every_variable() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    table = page.split("\n## Variables\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(re.findall(r"\$\{(\w+)", compose))


def test_mounted_files_are_there(services: dict[str, Any]) -> None:
    paths = [v["source"] for s in services.values() for v in s.get("volumes", [])]
    binds = [path for path in paths if path.startswith("/")]
    assert binds
    assert all((ROOT / path).exists() for path in binds)
    assert (ROOT / "deploy" / "no-token").read_bytes() == b""


def seconds(text: str) -> float:
    """Of a duration such as '1h0m0s'."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([0-9.]+)([hms])", text))
