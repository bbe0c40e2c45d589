"""What an answer must be like, as a client says it: a JSON schema, a regular expression, one of
some texts, or a grammar."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vlm_dlm.errors import StructureError

# Of the source, in UTF-8. Generous: a schema of some hundred fields has 20 KiB.
MAX_BYTES = 2**17
# Objects, lists and brackets within one another; readers of grammars call themselves for each.
MAX_DEPTH = 48
MAX_CHOICES = 1000
ANY_OBJECT = '{"type": "object"}'


class StructureKind(StrEnum):
    """How `Structure.source` is written.

    JSON: a JSON schema. CHOICE: a JSON list of texts. REGEX: a regular expression without look
    around. GRAMMAR: Lark, or GBNF as llama.cpp has it.
    """

    JSON = "json"
    CHOICE = "choice"
    REGEX = "regex"
    GRAMMAR = "grammar"


_TITLES = {
    StructureKind.JSON: "JSON schema",
    StructureKind.CHOICE: "list of choices",
    StructureKind.REGEX: "regular expression",
    StructureKind.GRAMMAR: "grammar",
}


@dataclass(frozen=True, slots=True)
class Structure:
    """A grammar of answers that is not compiled yet."""

    kind: StructureKind
    source: str

    def __post_init__(self) -> None:
        """Raises StructureError for what is too large to look at."""
        try:
            num_bytes = len(self.source.encode())
        except UnicodeEncodeError:
            raise StructureError(f"the {self.title} must be valid Unicode text") from None
        if num_bytes > MAX_BYTES:
            found = f"the {self.title} has {num_bytes} bytes"
            raise StructureError(f"{found}; the limit is {MAX_BYTES}")
        if not self.source.strip():
            raise StructureError(f"the {self.title} is empty")
        if _depth(self.kind, self.source) > MAX_DEPTH:
            raise StructureError(
                f"the {self.title} has more than {MAX_DEPTH} levels within one another"
            )
        if self.kind is StructureKind.CHOICE:
            self.choices()

    @property
    def title(self) -> str:
        """For people."""
        return _TITLES[self.kind]

    def choices(self) -> list[str]:
        """The texts of a choice. Raises StructureError."""
        try:
            texts = json.loads(self.source)
        except ValueError:
            texts = None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise StructureError("the choices must be a list of texts")
        if not texts or "" in texts:
            raise StructureError("the choices must be at least one text, none of them empty")
        if len(texts) > MAX_CHOICES:
            raise StructureError(f"there are {len(texts)} choices; the limit is {MAX_CHOICES}")
        return texts


def _depth(kind: StructureKind, source: str) -> int:
    """Most objects, lists or brackets within one another."""
    if kind in (StructureKind.JSON, StructureKind.CHOICE):
        try:
            return _depth_of_value(json.loads(source))
        except RecursionError:
            return MAX_DEPTH + 1
        except ValueError:
            return 0  # whoever reads it says what is wrong
    depth = most = 0
    for char in re.sub(r"\\.", "", source, flags=re.DOTALL):
        depth = depth + (char in "([{") - (char in ")]}")
        most = max(most, depth)
    return most


def _depth_of_value(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth
