"""Messages that a stream of the page has taken and not sent yet: they stay of account."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from vlm_dlm_app.http.held_bytes import Hold

# Those of the stream that runs in this context.
_taken: ContextVar[list[Hold]] = ContextVar("taken")


@contextmanager
def sending() -> Generator[None]:
    """A stream, within which what is taken counts until more is asked for, or to its end."""
    token = _taken.set([])
    try:
        yield
    finally:
        let_go_of_sent()
        _taken.reset(token)


def take(hold: Hold, num_bytes: int) -> None:
    """So much of what it holds is taken; outside of a stream it is free at once."""
    hold.shrink_to(hold.num_bytes - num_bytes)
    taken = _taken.get(None)
    if taken is not None:
        own = Hold(hold.account, hold.client)
        own.grow_to(num_bytes)  # fits, as it just did
        taken.append(own)


def let_go_of_sent() -> None:
    """All that this stream took has been sent, or never will be."""
    taken = _taken.get([])
    while taken:
        taken.pop().let_go()
