"""What comes out does not depend on who else asks: many requests at once, each as it is alone."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx

from tests.e2e.server import Server
from tests.e2e.workload import MODES, chat, pictures

NUM_KINDS, NUM_COPIES = 50, 4
KEYS = ("first", "second", "third", "fourth")  # a client each: none may fill the queue alone
QUESTIONS = (
    "Describe the image.",
    "How many objects are there?",
    "What color is the object on the left?",
    "Is there a circle?",
)


def kinds() -> list[dict[str, Any]]:
    """Requests that differ in mode, pictures, question, length and how tokens are chosen."""
    rng = random.Random(5)
    images = pictures(6)
    found: list[dict[str, Any]] = []
    for number in range(NUM_KINDS):
        wanted = chat(
            tuple(rng.sample(images, rng.choice((0, 1, 1, 1, 2)))),
            rng.choice(QUESTIONS),
            MODES[number % len(MODES)],
            is_streamed=False,
            max_tokens=rng.choice((8, 24, 64, 96)),
            temperature=rng.choice((0.0, 0.0, 0.8, 1.2)),
            top_p=rng.choice((1.0, 0.9)),
            seed=number,
        )
        found.append(wanted)
    return found


async def ask(client: httpx.AsyncClient, body: dict[str, Any], key: str) -> tuple[str, str, int]:
    """(text, why it ended, tokens)."""
    headers = {"Authorization": f"Bearer {key}"}
    reply = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    choice = answer["choices"][0]
    tokens = answer["usage"]["completion_tokens"]
    return choice["message"]["content"], choice["finish_reason"], tokens


async def alone_and_together(base_url: str) -> None:
    wanted = kinds()
    limits = httpx.Limits(max_connections=NUM_KINDS * NUM_COPIES)
    async with httpx.AsyncClient(base_url=base_url, timeout=120, limits=limits) as client:
        alone = [await ask(client, body, KEYS[0]) for body in wanted]
        places = [(kind, key) for kind in range(NUM_KINDS) for key in KEYS]
        random.Random(6).shuffle(places)
        together = await asyncio.gather(*(ask(client, wanted[kind], key) for kind, key in places))
    different = [
        (wanted[kind]["generation_mode"], alone[kind], answer)
        for (kind, _), answer in zip(places, together, strict=True)
        if answer != alone[kind]
    ]
    assert different == []
    assert len({text for text, _, _ in alone}) > NUM_KINDS // 3, "these requests differ too little"


def test_200_requests_at_once_get_what_each_gets_alone() -> None:
    with Server(api_keys=KEYS, dtype="float32", max_waiting=NUM_KINDS * NUM_COPIES) as server:
        asyncio.run(alone_and_together(server.base_url))
