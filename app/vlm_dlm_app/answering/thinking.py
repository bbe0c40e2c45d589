"""Whether the model is to think first, under the many names that clients have for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.fields.nested import HOLDERS, THINKING_OPTIONS, WISHES
from vlm_dlm_app.schemas.fields.rules import is_empty

_OBJECT = "reasoning"  # the one wish that is no flag but an object
_FLAGS = tuple(name for name in WISHES if name != _OBJECT)
_OFF = ("none", "minimal", "off", "disabled")
_ON = ("low", "medium", "high", "xhigh", "max", "auto", "on", "enabled", "adaptive")


def thinking_of(extra: Mapping[str, Any] | None) -> bool | None:
    """What the request says; None where it says nothing.

    extra: the fields of the request that its schema does not have. Raises ApiError for a value that
    says neither, and where two fields contradict each other.
    """
    found = dict(_wishes(extra or {}, ""))
    if len(set(found.values())) > 1:
        names = " and ".join(found)
        message = f"{names} contradict each other; give one of them"
        raise ApiError("bad_input", message, next(iter(found)))
    return next(iter(found.values()), None)


def _wishes(fields: Mapping[str, Any], place: str) -> list[tuple[str, bool]]:
    """Name of every field that says it, and what. place: of these fields."""
    wishes = [
        (f"{place}{name}", _flag(fields[name], f"{place}{name}"))
        for name in _FLAGS
        if not is_empty(fields.get(name))
    ]
    for name in HOLDERS:
        if not is_empty(fields.get(name)):
            inner = _object(fields[name], f"{place}{name}")
            wishes += _wishes(_known(inner, f"{place}{name}"), f"{place}{name}.")
    if not is_empty(fields.get(_OBJECT)):
        wishes += _of_reasoning(_object(fields[_OBJECT], f"{place}{_OBJECT}"), place)
    return wishes


def _of_reasoning(reasoning: Mapping[str, Any], place: str) -> list[tuple[str, bool]]:
    """What is not about thinking or not, such as a summary of it, has no effect."""
    return [
        (f"{place}reasoning.{name}", _flag(reasoning[name], f"{place}reasoning.{name}"))
        for name in ("effort", "enabled")
        if reasoning.get(name) is not None
    ]


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ApiError("invalid_value", f"{place} must be an object", place)
    return cast("Mapping[str, Any]", value)


def _known(inner: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """Raises ApiError for a field that is not about thinking and would have an effect elsewhere."""
    THINKING_OPTIONS.check(inner, f"{place}.")
    return inner


def _flag(value: Any, place: str) -> bool:
    """A boolean, an effort in words, or an object whose `type` says it."""
    if isinstance(value, Mapping):
        value = cast("Mapping[str, Any]", value).get("type")
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in (*_OFF, *_ON):
        return value.lower() in _ON
    message = f"{place} must be true or false, or one of {', '.join((*_OFF, *_ON))}"
    raise ApiError("invalid_value", message, place)
