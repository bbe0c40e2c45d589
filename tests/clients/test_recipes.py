"""Every recipe of docs/clients.md, run against a real server as it stands there.

`make test` runs the light ones and skips those whose client cannot be installed; `make clients` runs
all, and there such a client is a failure.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import Answers
from tests.clients.environments import CLIENTS, Client, UnavailableError, is_asked_for, variables
from tests.clients.recipes import recipes, run_recipe
from tests.e2e.server import Server, labelled

# Those that measure or grade ask questions of their own.
ASKING = [client for client in CLIENTS if client.name in {"open-webui"}]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name, indirect=True)
def test_recipe(client: Client, server: Server, home: Path, answers: Answers) -> None:
    try:
        environment = variables(client, home)
    except UnavailableError as error:
        if is_asked_for(client):
            raise
        pytest.skip(str(error))
    before = server.metrics()
    printed = run_recipe(client, server.base_url, home, environment)
    after = server.metrics()
    assert answers.to_text in printed
    assert answers.to_picture in printed
    count = "time_to_first_token_seconds_count"
    for mode in ("linear_spec", "diffusion"):
        label = f'mode="{mode}"'
        assert labelled(after, count, label) > labelled(before, count, label), mode


def test_every_client_has_a_recipe() -> None:
    assert list(recipes()) == [client.title for client in CLIENTS]
