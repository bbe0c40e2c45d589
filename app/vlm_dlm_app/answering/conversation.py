"""Messages as clients send them to turns that every chat template can write.

Templates know one system message, in front, and users and assistants after it. So system and
developer messages that lead are one, joined with a blank line, and any other is a turn of the
user's; calls of tools are text of the assistant's, and their results a turn of the user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vlm_dlm.processor.prompt import ImagePart, Message, Part, TextPart
from vlm_dlm_app.answering.parts import Picture, call_text, function_text, pieces_of, result_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.fields.nested import MESSAGE
from vlm_dlm_app.schemas.messages import ROLES, ChatMessage, ToolCall

SYSTEM = ("system", "developer")
TOOLS = ("tool", "function")
Pieces = list[str | Picture]


class _Turns:
    """The turns so far, and what stands for their pictures, in order."""

    def __init__(self) -> None:
        self.system: list[str] = []
        self.messages: list[Message] = []
        self.sources: list[str] = []
        self._last = ""  # role of the message that came last

    def add(self, role: str, pieces: Pieces) -> None:
        """A message in the order sent; role: as it was sent."""
        if role in SYSTEM and not self.messages and not _pictures(pieces):
            self.system.append("".join(pieces))
            return
        own = "assistant" if role == "assistant" else "user"
        parts = tuple(self._part(piece) for piece in pieces)
        if role in TOOLS and self._last in TOOLS:  # results of one answer's calls are one turn
            before = self.messages.pop()
            parts = (*before.parts, TextPart("\n"), *parts)
        self.messages.append(Message(own, parts))
        self._last = role

    def all(self) -> tuple[Message, ...]:
        """With the system message in front; without a turn after it, the last of it is one."""
        if not self.messages:
            self.messages.append(Message.of("user", self.system.pop()))
        system = "\n\n".join(text for text in self.system if text)
        return (*([Message.of("system", system)] if self.system else []), *self.messages)

    def _part(self, piece: str | Picture) -> Part:
        if not isinstance(piece, Picture):
            return TextPart(piece)
        self.sources.append(str(piece))
        return ImagePart(len(self.sources) - 1)


def conversation_of(messages: Sequence[ChatMessage]) -> tuple[tuple[Message, ...], list[str]]:
    """The turns, and what stands for their images, in order. Raises ApiError."""
    turns = _Turns()
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        role = _role(message, place)
        MESSAGE.check(message.model_extra, f"{place}.")
        turns.add(role, _pieces(message, role, place))
    return turns.all(), turns.sources


def _role(message: ChatMessage, place: str) -> str:
    role = message.role.lower()
    if role not in ROLES:
        text = f"{place}.role must be one of {', '.join(ROLES)}"
        raise ApiError("unsupported_role", text, f"{place}.role")
    return role


def _pieces(message: ChatMessage, role: str, place: str) -> Pieces:
    """What the model reads of a message."""
    if message.content is None and role == "user" and not message.images:
        raise ApiError("bad_input", f"{place}.content is required", f"{place}.content")
    pieces: Pieces = [Picture(image) for image in message.images or ()]
    for index, part in enumerate(message.content or ()):
        pieces += pieces_of(part, f"{place}.content.{index}", role)
    if role in TOOLS:
        return result_of(pieces)
    if role == "assistant":
        if not pieces and message.refusal:
            pieces.append(message.refusal)
        pieces += _calls(message, any(pieces), place)
    return pieces


def _calls(message: ChatMessage, is_after_text: bool, place: str) -> Iterable[str]:
    """What the assistant called, each on lines of its own."""
    calls = [
        _call(call, f"{place}.tool_calls.{index}")
        for index, call in enumerate(message.tool_calls or ())
    ]
    if message.function_call is not None:
        calls.append(function_text(message.function_call))
    return [f"\n{text}" if index or is_after_text else text for index, text in enumerate(calls)]


def _call(call: ToolCall, place: str) -> str:
    if call.function is not None:
        return function_text(call.function)
    if call.custom is not None:
        return call_text(call.custom.name, {"input": call.custom.input})
    raise ApiError("bad_input", f"{place} has no function; send its name", place)


def _pictures(pieces: Pieces) -> bool:
    return any(isinstance(piece, Picture) for piece in pieces)
