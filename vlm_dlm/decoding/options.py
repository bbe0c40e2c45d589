"""What a mode can be told, described once: its range is checked from this, and the command line,
the bodies of requests, the controls of the page and the axes of its sweep are made from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vlm_dlm.errors import ModeError


@dataclass(frozen=True, slots=True)
class Control:
    """An option on the page, in what does not follow from the rest of it.

    label: by default its name in words.
    short: where there is little room; by default the label.
    info: a few words beneath; by default the help.
    high: the most that can be chosen; by default the option's.
    step: by default 1, or a twentieth of the range of a number that has a fraction.
    rest: the place that leaves the value to each mode; by default a step below the least.
    sweep: values worth trying; by default four across the range, of a bool both.
    sweep_first: those of them that are chosen at first; by default all.
    """

    label: str = ""
    short: str = ""
    info: str = ""
    high: float | None = None
    step: float | None = None
    rest: float | None = None
    sweep: tuple[float, ...] = ()
    sweep_first: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ModeOption:
    """One option of a mode; its default is that of the field of Params.

    name: of that field.
    kind: int, float or bool.
    help: a sentence for the command line.
    low, high: the least and the most that a number can be.
    metavar: stands for the value in the help.
    can_be_none: None is a value; the command line has 'none' for it where a number has a fraction.
    request_names: under which requests may set it, the first is its own; () for none.
    refusal: what is wrong with a value outside of the range, after 'mode NAME'.
    control: on the page, which has one only for what requests may set; None for none.
    tool_help: for a model that calls tools; by default the help.
    """

    name: str
    kind: type[int] | type[float] | type[bool]
    help: str
    low: float = 0
    high: float = 1
    metavar: str = "N"
    can_be_none: bool = False
    request_names: tuple[str, ...] = ()
    refusal: str = "takes a {name} of {low:g} to {high:g}, not {value}"
    control: Control | None = Control()
    tool_help: str = ""

    def check(self, mode: str, value: float | None) -> None:
        """Raises ModeError for a number outside of the range."""
        if value is None and self.can_be_none:
            return
        if value is None or not self.low <= value <= self.high:
            shown = "none" if value is None else value
            words = self.refusal.format(name=self.name, low=self.low, high=self.high, value=shown)
            raise ModeError(f"mode {mode} {words}")

    def joined(self, other: ModeOption) -> ModeOption:
        """What suits either mode. Raises ValueError for another option of the same name."""
        own, others = ((each.kind, each.request_names, each.help) for each in (self, other))
        if own != others:
            raise ValueError(f"two options are called {self.name}: {own}, {others}")
        return replace(
            self,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            can_be_none=self.can_be_none or other.can_be_none,
            control=self.control or other.control,
        )


def block_length(low: int, high: int) -> ModeOption:
    """Rows of a block, in every mode that has blocks."""
    return ModeOption(
        "block_length",
        int,
        "Tokens per block, in every mode run that has blocks.",
        low,
        high,
        "B",
        request_names=("block_length",),
        refusal="runs block lengths {low:g} to {high:g}, not {value}",
        control=Control(
            short="block",
            info="Tokens in a block",
            high=32,
            step=4,
            rest=0,
            sweep=(4, 8, 16, 32),
            sweep_first=(8, 16, 32),
        ),
        tool_help="tokens that are written together",
    )


def threshold(*, can_be_none: bool = False) -> ModeOption:
    """Confidence from which positions are filled, in every mode that denoises."""
    return ModeOption(
        "threshold",
        float,
        "Confidence from which drafted tokens are filled in (0 to 1), in every mode run that has "
        "one; 'none' fills a fixed share per forward (diffusion).",
        metavar="T",
        can_be_none=can_be_none,
        request_names=("threshold",),
        control=Control(
            info="How sure of a token the model must be",
            rest=0,
            sweep=(0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
            sweep_first=(0.7, 0.9, 1.0),
        ),
        tool_help="how sure of a token a diffusing mode must be, 0 to 1; lower is faster",
    )


def option_table(several: Iterable[Iterable[ModeOption]]) -> dict[str, ModeOption]:
    """Options of several modes by name; one that some share has the widest range of theirs."""
    table: dict[str, ModeOption] = {}
    for options in several:
        for option in options:
            known = table.get(option.name)
            table[option.name] = option if known is None else known.joined(option)
    return table
