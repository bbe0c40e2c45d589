"""The modes' options as the page has them: its controls, names in links, axes of the sweep, words
of its endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vlm_dlm.decoding.options import Control, ModeOption
from vlm_dlm.request import DEFAULT_MODE
from vlm_dlm_app.answering.modes import OPTION_FIELDS
from vlm_dlm_app.schemas.common import REQUEST_OPTIONS

_Call = TypeVar("_Call", bound=Callable[..., Any])
NUM_SWEPT = 4
# Of a flag, as people and as controls and links have it.
_WORDS = {False: "off", True: "on"}
_PLACES = {False: "false", True: "true"}


@dataclass(frozen=True, slots=True)
class PageOption:
    """One option with all that follows from it.

    name: the engine's.
    field: of requests and links.
    rest, high, step: of the control, which leaves the value to each mode at `rest`; a flag's has
        choices, and "" for that.
    sweep, sweep_first: values of an axis, and those chosen at first.
    """

    name: str
    field: str
    kind: type[int] | type[float] | type[bool]
    label: str
    short: str
    info: str
    rest: Any
    high: float
    step: float
    sweep: tuple[Any, ...]
    sweep_first: tuple[Any, ...]

    @property
    def elem_id(self) -> str:
        """Of the control."""
        return self.short.replace(" ", "-")

    @property
    def axis_label(self) -> str:
        """Of its values in the sweep."""
        return self.label if self.is_flag else f"{self.label}s"

    @property
    def is_flag(self) -> bool:
        """Whether it is on or off."""
        return self.kind is bool

    def words(self, value: Any) -> str:
        """A value as people read it."""
        if self.is_flag:
            return _WORDS[value]
        return f"{value:g}" if isinstance(value, float) else str(value)

    def read(self, words: str) -> Any:
        """The value that `words` says. Raises ValueError."""
        return words == _WORDS[True] if self.is_flag else self.kind(words)

    def is_value(self, value: Any) -> bool:
        """Whether it is of the option's kind."""
        kinds = (int, float) if self.kind is float else self.kind
        return isinstance(value, kinds) and isinstance(value, bool) == self.is_flag

    def given(self, place: Any) -> Any:
        """The value of a control; None where it is left to the mode. Raises ValueError."""
        if place == self.rest:
            return None
        value = place == _PLACES[True] if self.is_flag else self.kind(place)
        return None if value == self.rest else value

    def place(self, value: Any) -> Any:
        """Where the control stands at a value."""
        return _PLACES[value] if self.is_flag else value

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(text, place) of a flag's control."""
        own = [(_WORDS[value], _PLACES[value]) for value in (True, False)]
        return [("what suits each mode", self.rest), *own]


def page_option(option: ModeOption, control: Control) -> PageOption:
    """One option that requests may set."""
    label = control.label or option.name.replace("_", " ").capitalize()
    low, high = option.low, option.high
    step = control.step or (1 if option.kind is int else round((high - low) / 20, 6))
    rest = round(low - step, 6) if control.rest is None else control.rest
    sweep = tuple(option.kind(value) for value in control.sweep) or _spread(option)
    return PageOption(
        name=option.name,
        field=option.request_names[0],
        kind=option.kind,
        label=label,
        short=control.short or label.lower(),
        info=control.info or option.help.removesuffix("."),
        rest="" if option.kind is bool else option.kind(rest),
        high=option.kind(high if control.high is None else control.high),
        step=step,
        sweep=sweep,
        sweep_first=tuple(option.kind(value) for value in control.sweep_first) or sweep,
    )


def _spread(option: ModeOption) -> tuple[Any, ...]:
    """Values across the range, both ends among them."""
    if option.kind is bool:
        return False, True
    part = (option.high - option.low) / (NUM_SWEPT - 1)
    places = (option.low + part * i for i in range(NUM_SWEPT))
    numbers = (round(place) if option.kind is int else round(place, 3) for place in places)
    return tuple(dict.fromkeys(option.kind(number) for number in numbers))


# In the order of the controls, and of everything that goes by it.
PAGE_OPTIONS = tuple(
    page_option(option, option.control) for option in REQUEST_OPTIONS if option.control is not None
)


def given_options(places: Sequence[Any]) -> dict[str, Any]:
    """What the controls set, by the engine's names. Raises ValueError."""
    values = {
        option.name: option.given(place) for option, place in zip(PAGE_OPTIONS, places, strict=True)
    }
    return {name: value for name, value in values.items() if value is not None}


def options_of(names: Sequence[str]) -> tuple[PageOption, ...]:
    """Those of a mode with options of these names."""
    return tuple(option for option in PAGE_OPTIONS if option.name in names)


def in_words(options: Sequence[PageOption] = PAGE_OPTIONS) -> str:
    """Their labels, as in 'threshold and block length'."""
    return _listed(option.label.lower() for option in options)


def _listed(words: Iterable[str]) -> str:
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last


def naming_options(call: _Call) -> _Call:
    """A function whose docstring has {options}, {axes}, {swept}, {first[NAME]} and {default_mode}
    for what there is."""
    call.__doc__ = (call.__doc__ or "").format(
        options=", ".join(OPTION_FIELDS.values()),
        axes=", ".join(option.field for option in PAGE_OPTIONS),
        swept=in_words(),
        first={o.name: _listed(map(o.words, o.sweep_first)) for o in PAGE_OPTIONS},
        default_mode=DEFAULT_MODE,
    )
    return call


def told_controls() -> list[Mapping[str, Any]]:
    """What the page's scripts must know of the controls."""
    return [
        {"name": option.field, "rest": option.rest, "isFlag": option.is_flag}
        for option in PAGE_OPTIONS
    ]
