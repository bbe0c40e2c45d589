"""Bounds that every text, list and object of a request has.

They keep the work of checking a request small, and are far above what a request may really have,
which is in the settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, cast

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, BaseModel, FailFast, Field, model_validator

MAX_TEXT_CHARS = 2**24
MAX_ADDRESS_CHARS = 2**28  # of an image as a data URI
MAX_NAME_CHARS = 200
MAX_ENTRIES = 1024
MAX_FIELDS = 512  # of one object, those included that are not known

# Of what a reply says. A report sends some of that back.
Said = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]


@dataclass(frozen=True, slots=True)
class Several(GroupedMetadata):
    """At most so many entries, and at least; checking ends at the first that is wrong."""

    at_most: int = MAX_ENTRIES
    at_least: int = 0

    def __iter__(self) -> Iterator[object]:
        yield Field(min_length=self.at_least or None, max_length=self.at_most)
        yield FailFast()


def _bound_entries(value: Any) -> Any:
    for kind, most, what in ((list, MAX_ENTRIES, "entries"), (dict, MAX_FIELDS, "fields")):
        if isinstance(value, kind) and len(cast("Any", value)) > most:
            raise ValueError(f"has more {what} than the limit, which is {most}")
    return cast("Any", value)


# Of a function of the page: whatever takes it makes an error of each entry that is wrong.
Argument = Annotated[Any, AfterValidator(_bound_entries)]


class BoundedModel(BaseModel):
    """Part of a request. Each field that is not known may be a fault, so they are counted first."""

    @model_validator(mode="before")
    @classmethod
    def _bound_fields(cls, value: Any) -> Any:
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if len(fields) > MAX_FIELDS:
            raise ValueError(f"has more fields than the limit, which is {MAX_FIELDS}")
        return cast("Any", value)
