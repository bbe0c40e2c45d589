"""A small strict reader of server-sent events, made from the standard, not from our writer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """kind: 'message' unless the event names another."""

    kind: str
    data: str


class EventReader:
    """Bytes in pieces of any size, events out. Raises ValueError for what no stream of ours holds:
    other line ends, unknown fields, text that is not UTF-8."""

    def __init__(self) -> None:
        self._rest = b""
        self._kind = ""
        self._data: list[str] = []

    @property
    def is_between_events(self) -> bool:
        """Whether nothing was begun and not ended."""
        return not (self._rest or self._kind or self._data)

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are complete now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found: list[Event] = []
        for line in lines:
            event = self._read(line.decode("utf-8"))
            if event is not None:
                found.append(event)
        return found

    def _read(self, line: str) -> Event | None:
        if "\r" in line or "\0" in line:
            raise ValueError(f"a line holds a control character: {line!r}")
        if not line:
            return self._end()
        name, colon, value = line.partition(":")
        if not colon or (value and not value.startswith(" ")):
            raise ValueError(f"a line is no field: {line!r}")
        if name == "data":
            self._data.append(value[1:])
        elif name == "event" and not self._kind and value.strip():
            self._kind = value[1:]
        elif name:
            raise ValueError(f"a field is unknown or comes twice: {line!r}")
        return None

    def _end(self) -> Event | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "", []
        if not data:
            if kind:
                raise ValueError(f"an event {kind!r} has no data")
            return None
        return Event(kind or "message", "\n".join(data))


def read_events(stream: bytes) -> list[Event]:
    """All events of a whole stream. Raises ValueError also for one that is cut short."""
    reader = EventReader()
    found = reader.feed(stream)
    if not reader.is_between_events:
        raise ValueError("the stream ends within an event")
    return found
