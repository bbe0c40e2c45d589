"""Order, bounds and fairness of the waiting queue."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm.errors import QueueFullError
from vlm_dlm.serving.queue.fair_queue import BATCH_TURN, FairQueue, Priority, Waiting


def waiting(item: int, client: str = "a", num_tokens: int = 1, **options: object) -> Waiting[int]:
    return Waiting(item, client, num_tokens, **options)  # type: ignore[arg-type]


def drain(queue: FairQueue[int]) -> list[int]:
    items: list[int] = []
    while (entry := queue.pop()) is not None:
        items.append(entry.item)
    return items


def test_clients_take_turns() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(4):
        queue.push(waiting(item, "greedy"))
    queue.push(waiting(10, "b"))
    queue.push(waiting(20, "c"))
    queue.push(waiting(11, "b"))
    assert drain(queue) == [0, 10, 20, 1, 11, 2, 3]


def test_a_newcomer_waits_for_at_most_one_request_of_a_greedy_client() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(20):
        queue.push(waiting(item, "greedy"))
    queue.pop()
    queue.push(waiting(99, "new"))
    assert 99 in (queue.pop().item, queue.pop().item)  # type: ignore[union-attr]


def test_interactive_goes_first_and_batch_does_not_starve() -> None:
    queue: FairQueue[int] = FairQueue(max_requests=100)
    for item in range(20):
        queue.push(waiting(item, f"i{item}"))
        queue.push(waiting(100 + item, f"b{item}", priority=Priority.BATCH))
    order = drain(queue)
    first = order[:BATCH_TURN]
    assert sum(item >= 100 for item in first) == 1
    assert first[-1] >= 100
    assert len(order) == 40


def test_bounds_name_what_was_passed() -> None:
    queue: FairQueue[int] = FairQueue(max_requests=4, max_tokens=10)
    queue.push(waiting(0, "a", 3))
    queue.push(waiting(1, "a", 2))
    with pytest.raises(QueueFullError, match="limit for one client is 2"):
        queue.push(waiting(2, "a", 1))
    with pytest.raises(QueueFullError, match="limit is 10"):
        queue.push(waiting(2, "b", 6))
    queue.push(waiting(3, "b", 1))
    queue.push(waiting(4, "b", 1))
    with pytest.raises(QueueFullError, match="4 requests are waiting; the limit is 4"):
        queue.push(waiting(5, "c", 1))
    assert (len(queue), queue.num_tokens) == (4, 7)


def test_one_client_cannot_use_up_the_tokens() -> None:
    queue: FairQueue[int] = FairQueue(max_tokens=10)
    queue.push(waiting(0, "greedy", 3))
    with pytest.raises(QueueFullError, match=r"3 prompt tokens of yours .* one client is 5"):
        queue.push(waiting(1, "greedy", 3))
    queue.push(waiting(1, "greedy", 2))
    queue.push(waiting(2, "b", 5))
    assert queue.num_tokens == 10


def test_a_prompt_of_more_than_half_gets_in_beside_others() -> None:
    queue: FairQueue[int] = FairQueue(max_tokens=10)
    queue.push(waiting(0, "a", 2))
    queue.push(waiting(1, "b", 8))
    assert drain(queue) == [0, 1]


def test_who_comes_later_takes_nobodys_room() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(waiting(100, "wide"))
    queue.push(waiting(1, "narrow"))
    assert queue.pop(has_room=lambda item: item < 50) is None
    assert (len(queue), drain(queue)) == (2, [100, 1])


def test_who_has_much_gives_way_to_others_only() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(waiting(0, "greedy"))
    queue.push(waiting(1, "greedy"))
    queue.push(waiting(2, "b", priority=Priority.BATCH))
    order: list[int] = []
    while (entry := queue.pop(gives_way=lambda item: item < 2)) is not None:
        order.append(entry.item)
    assert order == [2, 0, 1]


def test_one_prompt_over_the_token_bound_still_gets_in_alone() -> None:
    queue: FairQueue[int] = FairQueue(max_tokens=10)
    queue.push(waiting(0, "a", 50))
    assert drain(queue) == [0]


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(0, 4))
def test_a_position_is_the_place_in_which_its_turn_comes(clients: str, num_served: int) -> None:
    queue: FairQueue[int] = FairQueue(100)
    entries = {number: waiting(number, client) for number, client in enumerate(clients)}
    for entry in entries.values():
        queue.push(entry)
    served = [entry for _ in range(num_served) if (entry := queue.pop()) is not None]
    places = {number: queue.position(entry) for number, entry in entries.items()}
    assert all(places[entry.item] is None for entry in served)
    assert [places[number] for number in drain(queue)] == [
        *range(1, len(entries) - len(served) + 1)
    ]


def test_batch_requests_stand_after_interactive_ones() -> None:
    queue: FairQueue[int] = FairQueue()
    batch = waiting(0, priority=Priority.BATCH)
    queue.push(batch)
    queue.push(waiting(1))
    assert queue.position(batch) == 2


def test_removing_twice_is_harmless() -> None:
    queue: FairQueue[int] = FairQueue()
    entry = waiting(0, num_tokens=7)
    queue.push(entry)
    assert queue.remove(entry)
    assert not queue.remove(entry)
    assert (len(queue), queue.num_tokens) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(Priority), st.integers(1, 9), st.booleans()
        ),
        max_size=60,
    )
)
def test_nothing_is_lost_and_counts_stay_true(
    pushes: list[tuple[str, Priority, int, bool]],
) -> None:
    queue: FairQueue[int] = FairQueue(max_requests=20, max_tokens=80)
    expected: Counter[int] = Counter()
    popped: Counter[int] = Counter()
    inside: dict[int, int] = {}  # item -> tokens
    for item, (client, priority, num_tokens, is_popping) in enumerate(pushes):
        try:
            queue.push(Waiting(item, client, num_tokens, priority))
        except QueueFullError:
            continue
        expected[item] += 1
        inside[item] = num_tokens
        if is_popping and (entry := queue.pop()) is not None:
            popped[entry.item] += 1
            del inside[entry.item]
        assert queue.num_tokens == sum(inside.values())
        assert len(queue) == len(inside) <= 20
    popped.update(drain(queue))
    assert popped == expected
    assert queue.num_tokens == 0
