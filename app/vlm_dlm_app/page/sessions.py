"""The sessions that Gradio keeps something for: what, for whom, and for how long.

Gradio keeps the newest of all clients together, each with whatever its calls were sent and gave.
Here each client has a share, of sessions and of bytes, and nobody's conversation makes room for
another client's.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from vlm_dlm.errors import QueueFullError
from vlm_dlm.shares import share_of
from vlm_dlm_app.http.held_bytes import HeldBytes, Hold

if TYPE_CHECKING:
    from gradio import Blocks

    from vlm_dlm_app.page.messages import Messages

MAX_OPEN_CALLS = 32  # of one session, as long as nobody is told what came of them
UNREAD_S = 60.0  # for answers to be fetched
LOOK_S = 1.0


class Sessions:
    """max_sessions: of all together, half of them of one client. on_lost: gets the name of one
    whose answers will not be read. is_followed: whether somebody reads what a session is told.
    clock: seconds. For the event loop alone."""

    def __init__(
        self,
        blocks: Blocks,
        held: HeldBytes,
        max_sessions: int,
        on_lost: Callable[[str], None],
        is_followed: Callable[[str], bool],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._blocks = blocks
        self._held = held
        self._max_sessions = max_sessions
        self._on_lost = on_lost
        self._is_followed = is_followed
        self._clock = clock
        self._clients: OrderedDict[str, str] = OrderedDict()  # by session, used last at the end
        self._calls: dict[str, Hold] = {}  # by event

    @property
    def _queue(self) -> Any:
        return self._blocks._queue

    def enter(self, session: str, client: str) -> None:
        """Before a call of it. Raises QueueFullError where it has too many that are not read, or
        its client too many sessions in which something runs."""
        self.look()
        if len(self._queue.pending_event_ids_session.get(session, ())) >= MAX_OPEN_CALLS:
            raise QueueFullError(
                f"one session may have {MAX_OPEN_CALLS} calls whose answers nobody has read"
            )
        if session not in self._clients:
            self._make_room(client)
            self._clients[session] = client
        self._clients.move_to_end(session)
        if session not in self._queue.pending_messages_per_session:
            self._queue.pending_messages_per_session[session] = self._messages(session)

    def keep(self, event_id: str, hold: Hold) -> None:
        """A call was taken; what it holds is let go of when it has ended."""
        event = self._queue.event_ids_to_events.get(event_id)
        if event is None:
            hold.let_go()
            return
        hold.is_taken = True
        self._calls[event_id] = hold
        # Gradio keeps the request with the call, and the body with the request, twice.
        event.request._body, event.request._json = b"", None

    async def watch(self) -> None:
        """Run for as long as the server."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Let go of what calls held that have ended, and of answers that nobody fetches."""
        running = self._queue.event_ids_to_events
        for event_id in [event_id for event_id in self._calls if event_id not in running]:
            self._calls.pop(event_id).let_go()
        busy = self._busy()
        now = self._clock()
        unread = self._queue.pending_messages_per_session
        for session, messages in list(unread.items()):
            is_read = session in busy or self._is_followed(session)
            if not is_read and now - messages.read_s > UNREAD_S:
                self._drop_messages(session)
        pending = self._queue.pending_event_ids_session
        for session in [session for session in pending if session not in unread]:
            del pending[session]  # nobody can be told any more

    def _busy(self) -> set[str]:
        return {event.session_hash for event in self._queue.event_ids_to_events.values()}

    def _messages(self, session: str) -> Messages:
        from vlm_dlm_app.page.messages import Messages  # needs Gradio

        hold = Hold(self._held, self._clients[session])
        return Messages(hold, lambda: self._on_lost(session))

    def _make_room(self, client: str) -> None:
        """Where there are too many sessions, one that was not used for long goes: the client's own,
        or of the client that has most."""
        counts = Counter(self._clients.values())
        if counts[client] >= share_of(self._max_sessions):
            self._drop_oldest(client)
        elif len(self._clients) >= self._max_sessions:
            self._drop_oldest(max(counts, key=lambda name: counts[name]))

    def _drop_oldest(self, client: str) -> None:
        busy = self._busy()
        for session, own in self._clients.items():
            if own == client and session not in busy:
                break
        else:
            raise QueueFullError("as many sessions of the page are in use as may be")
        del self._clients[session]
        self._drop_messages(session)
        holder = self._blocks.state_holder
        with holder.lock:
            holder.session_data.pop(session, None)
            holder.time_last_used.pop(session, None)

    def _drop_messages(self, session: str) -> None:
        self._queue.pending_messages_per_session.pop(session, None)
        self._queue.pending_event_ids_session.pop(session, None)
