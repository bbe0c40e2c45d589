"""Sessions of the page: each client has a share, and what is not read goes."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from gradio.server_messages import ProcessCompletedMessage

from vlm_dlm.errors import QueueFullError
from vlm_dlm_app.http.held_bytes import HeldBytes, Hold
from vlm_dlm_app.page.leaving import Followers
from vlm_dlm_app.page.messages import FULL, Messages
from vlm_dlm_app.page.sessions import UNREAD_S, Sessions
from vlm_dlm_app.page.taking import sending


class Page:
    """Gradio's parts, as far as they are looked at."""

    def __init__(self) -> None:
        self.queue = SimpleNamespace(
            pending_messages_per_session={}, pending_event_ids_session={}, event_ids_to_events={}
        )
        self.states: dict[str, Any] = {}
        holder = SimpleNamespace(lock=threading.Lock(), session_data=self.states, time_last_used={})
        blocks: Any = SimpleNamespace(_queue=self.queue, state_holder=holder)
        self.held = HeldBytes(1000, 100)
        self.now_s = 0.0
        self.followers = Followers()
        self.sessions = Sessions(
            blocks, self.held, 4, lambda _: None, self.followers.has, lambda: self.now_s
        )

    def enter(self, session: str, client: str) -> None:
        self.sessions.enter(session, client)
        self.states.setdefault(session, object())


def test_a_client_with_many_sessions_loses_its_own_and_no_other() -> None:
    page = Page()
    page.enter("victim", "a")
    for number in range(10):
        page.enter(f"s{number}", "b")
    assert list(page.states) == ["victim", "s8", "s9"]


def test_where_all_have_theirs_the_one_with_most_makes_room() -> None:
    page = Page()
    for session, client in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"), ("d1", "d")):
        page.enter(session, client)
    assert list(page.states) == ["a1", "b2", "c1", "d1"]


def test_sessions_in_which_something_runs_are_kept() -> None:
    page = Page()
    for session in ("s1", "s2"):
        page.enter(session, "a")
        page.queue.event_ids_to_events[session] = SimpleNamespace(session_hash=session)
    with pytest.raises(QueueFullError):
        page.enter("s3", "a")


def test_what_nobody_fetches_is_let_go() -> None:
    page = Page()
    page.enter("s", "a")
    messages = page.queue.pending_messages_per_session["s"]
    messages.put_nowait(ProcessCompletedMessage(output={"data": ["x" * 100]}, success=True))
    assert page.held.num_bytes > 100
    page.now_s = messages.read_s + UNREAD_S + 1
    page.followers.come("s")
    page.sessions.look()
    assert page.queue.pending_messages_per_session  # somebody reads, slowly
    page.followers.go("s", is_whole=True)
    page.sessions.look()
    del messages
    assert page.held.num_bytes == 0
    assert not page.queue.pending_messages_per_session


def test_what_does_not_fit_ends_in_a_sentence() -> None:
    held, lost = HeldBytes(2000, 100), []
    messages = Messages(Hold(held, "a"), lambda: lost.append(1))
    for size in (100, 5000, 10):
        output = {"data": ["x" * size]}
        messages.put_nowait(ProcessCompletedMessage(output=output, success=True, event_id="e"))
    assert lost == [1]
    assert held.num_bytes == 0
    while not messages.empty():
        assert messages.get_nowait().output["error"] == FULL


def test_a_message_is_held_until_its_stream_asks_for_more_or_ends() -> None:
    """As it is sent in between, to a reader who may be slow."""
    held = HeldBytes(10_000, 100)
    messages = Messages(Hold(held, "a"), lambda: None)

    async def run() -> None:
        for _ in range(2):
            messages.put_nowait(ProcessCompletedMessage(output={"x": "x" * 1000}, success=True))
        whole = held.num_bytes
        with sending():
            await asyncio.wait_for(messages.get(), 1)  # as Gradio does, maybe in a task
            assert held.num_bytes == whole
            await asyncio.gather(other())
            assert held.num_bytes == whole
            await asyncio.wait_for(messages.get(), 1)
            assert held.num_bytes == whole // 2
        assert held.num_bytes == 0

    async def other() -> None:
        """Another stream of the session, which takes nothing of the first's."""
        with sending():
            pass

    asyncio.run(run())


def test_what_is_sent_is_held_though_its_session_goes() -> None:
    held = HeldBytes(10_000, 100)
    messages = Messages(Hold(held, "a"), lambda: None)
    messages.put_nowait(ProcessCompletedMessage(output={"x": "x" * 1000}, success=True))
    with sending():
        messages.get_nowait()
        del messages
        assert held.num_bytes > 1000
    assert held.num_bytes == 0


def test_a_call_holds_its_bytes_until_it_has_ended() -> None:
    page = Page()
    hold = Hold(page.held, "a")
    hold.grow_to(90)
    request = SimpleNamespace(_body=b"x", _json={})
    page.queue.event_ids_to_events["e"] = SimpleNamespace(session_hash="s", request=request)
    page.sessions.keep("e", hold)
    page.sessions.look()
    assert (page.held.num_bytes, request._body, hold.is_taken) == (90, b"", True)
    page.queue.event_ids_to_events.clear()
    page.sessions.look()
    assert page.held.num_bytes == 0
