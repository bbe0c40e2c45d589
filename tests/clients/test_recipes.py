"""Every recipe of docs/clients.md, run against a real server as it stands there.

`make clients` runs all, and a client that cannot be installed is a failure there; with
`CLIENTS=light` it runs the light ones and skips such a client.
"""

from __future__ import annotations

import pytest

from tests.clients.conftest import Answers
from tests.clients.environments import CLIENTS
from tests.clients.recipes import PAGE, Kitchen, recipes
from tests.e2e.server import Server, labelled

BROWSED = "open-webui"  # has a test of its own
MEASURING = {"guidellm", "aiperf", "lm-eval", "lmms-eval"}  # they ask questions of their own
COUNT = "time_to_first_token_seconds_count"
ALL = [client for client in CLIENTS if client.name != BROWSED]


@pytest.mark.parametrize("client", ALL, ids=lambda client: client.name, indirect=True)
def test_recipe(kitchen: Kitchen, server: Server, answers: Answers) -> None:
    before = server.metrics()
    printed = kitchen.run()
    after = server.metrics()
    is_measuring = kitchen.client.name in MEASURING
    if not is_measuring:
        assert answers.to_text in printed
        assert answers.to_picture in printed
    for mode in ("diffusion",) if is_measuring else ("linear_spec", "diffusion"):
        label = f'mode="{mode}"'
        assert labelled(after, COUNT, label) > labelled(before, COUNT, label), mode


def test_every_client_has_a_recipe() -> None:
    assert list(recipes()) == [client.title for client in CLIENTS]


def test_the_table_has_the_versions_that_are_tested() -> None:
    rows = [
        f"| [{client.title}](#{client.title.lower().replace(' ', '-')}) | {client.version} | "
        f"`{'make clients' if client.is_heavy else 'CLIENTS=light'}` |"
        for client in CLIENTS
    ]
    assert "\n".join(rows) in PAGE.read_text(encoding="utf-8")
