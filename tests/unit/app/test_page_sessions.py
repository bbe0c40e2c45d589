"""Sessions of the page: each client has a share, and what is not read goes."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from gradio.server_messages import ProcessCompletedMessage

from vlm_dlm.errors import QueueFullError
from vlm_dlm_app.held_bytes import HeldBytes, Hold
from vlm_dlm_app.page.messages import FULL, Messages
from vlm_dlm_app.page.sessions import UNREAD_S, Sessions


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
        self.sessions = Sessions(blocks, self.held, 4, lambda _: None, lambda: self.now_s)

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
