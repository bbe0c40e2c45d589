"""Whose request goes on next, and how many in one round of the event loop."""

from __future__ import annotations

import asyncio

from vlm_dlm_app.http.middleware.pace import Starts


def test_one_begins_in_each_round_and_clients_take_turns() -> None:
    async def run() -> list[list[str]]:
        turns, rounds = Starts(), []

        async def ask(client: str) -> None:
            await turns.take(client)
            rounds[-1].append(client)

        asked = ["greedy"] * 5 + ["other"] * 2
        tasks = [asyncio.create_task(ask(client)) for client in asked]
        while not all(task.done() for task in tasks):
            rounds.append([])
            await asyncio.sleep(0)
        return rounds

    rounds = asyncio.run(run())
    assert all(len(begun) <= 1 for begun in rounds)
    order = [client for begun in rounds for client in begun]
    assert order == ["greedy", "greedy", "other", "greedy", "other", "greedy", "greedy"]


def test_who_leaves_is_passed_over() -> None:
    async def run() -> list[str]:
        turns, begun = Starts(), []

        async def ask(name: str) -> None:
            await turns.take("client")
            begun.append(name)

        tasks = [asyncio.create_task(ask(name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ask("later")
        return begun

    assert asyncio.run(run()) == ["a", "c", "later"]
