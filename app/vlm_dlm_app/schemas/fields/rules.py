"""What becomes of a field: honoured, ignored because it changes nothing, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, cast

from vlm_dlm_app.http.errors import ApiError

MAX_SHOWN_CHARS = 100
# Longer names are nobody's slip of the pen, and looking for one is work.
MAX_GUESSED_CHARS = 40
CLOSE = 0.8


class Rule(Enum):
    """HONOURED: does what it says. IGNORED: cannot change an answer of this server. REFUSED: would
    change it and cannot be honoured, unless its value is one that changes nothing."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Field:
    """One or several names that are treated alike.

    senders: whose API has it.
    note: what it does, why it changes nothing, or why it cannot be honoured.
    neutral: values of a refused one that change nothing; null and empty ones never do.
    instead: what would work, in place of leaving it out.
    """

    names: tuple[str, ...]
    senders: str
    rule: Rule
    note: str
    neutral: tuple[Any, ...] = ()
    instead: str = ""

    @property
    def remedy(self) -> str:
        """What to send in place of a value that is refused."""
        if self.instead:
            return self.instead
        values = " or ".join(json.dumps(value) for value in self.neutral)
        return f"leave it out or send {values}" if values else "leave it out"

    def is_neutral(self, value: Any) -> bool:
        return is_empty(value) or any(_matches(value, own) for own in self.neutral)


def honoured(names: str, senders: str, note: str) -> Field:
    """names: separated by spaces."""
    return Field(tuple(names.split()), senders, Rule.HONOURED, note)


def ignored(names: str, senders: str, note: str) -> Field:
    """note: why it changes nothing."""
    return Field(tuple(names.split()), senders, Rule.IGNORED, note)


def refused(names: str, senders: str, note: str, *neutral: Any, instead: str = "") -> Field:
    """note: why it cannot be honoured."""
    return Field(tuple(names.split()), senders, Rule.REFUSED, note, neutral, instead)


class Place:
    """Where fields stand: the request itself, a message, a part of one, an option of options.

    title, intro: for the documentation. ignores_unknown: what a field is that nobody knows: in the
    request an option, that may change the answer; in a message a remark of the program that wrote
    it.
    """

    def __init__(
        self, title: str, intro: str, fields: Iterable[Field], *, ignores_unknown: bool
    ) -> None:
        self.title = title
        self.intro = intro
        self.fields = tuple(fields)
        self.ignores_unknown = ignores_unknown
        self._by_name = {name: field for field in self.fields for name in field.names}
        if len(self._by_name) != sum(len(field.names) for field in self.fields):
            raise ValueError(f"a field of {title} is listed twice")

    def names(self, rule: Rule) -> list[str]:
        return [name for name, field in self._by_name.items() if field.rule is rule]

    def check(
        self,
        given: Mapping[str, Any] | None,
        prefix: str = "",
        harmless: tuple[str, ...] = (),
    ) -> None:
        """Raise ApiError for the first field that would change the answer and cannot be honoured.

        prefix: what stands before the name, as `messages.0.`. harmless: beginnings of names that
        never matter.
        """
        for name, value in (given or {}).items():
            field = self._by_name.get(name)
            path = f"{prefix}{name[:MAX_SHOWN_CHARS]}"
            if field is None:
                if not (is_empty(value) or self.ignores_unknown or name.startswith(harmless)):
                    raise self._unknown(name, path)
            elif field.rule is Rule.REFUSED and not field.is_neutral(value):
                message = f"{path} cannot be honoured: {field.note}; {field.remedy}"
                raise ApiError("unsupported_field", message, path)

    def _unknown(self, name: str, path: str) -> ApiError:
        message = f"{path} is not known here and may change the answer; leave it out"
        known = self.names(Rule.HONOURED)
        if len(name) <= MAX_GUESSED_CHARS and (found := get_close_matches(name, known, 1, CLOSE)):
            message += f", or send {found[0]} if that was meant"
        return ApiError("unsupported_field", message, path)


def is_empty(value: Any) -> bool:
    """Null, or nothing in it: the same as not sent."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def _matches(value: Any, neutral: Any) -> bool:
    """Equal; an object also if it has more than the neutral one, which only notes of its sender
    are. False is no 0 and 1 no true, but 0.0 is 0."""
    if isinstance(neutral, dict):
        if not isinstance(value, dict):
            return False
        fields = cast("dict[str, Any]", value)
        return all(_matches(fields.get(k), v) for k, v in cast("dict[str, Any]", neutral).items())
    return isinstance(value, bool) == isinstance(neutral, bool) and value == neutral
