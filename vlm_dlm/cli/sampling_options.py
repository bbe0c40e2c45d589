"""How tokens are chosen, as options of commands: one that takes `sampling` gets one for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vlm_dlm.cli import options as opt
from vlm_dlm.cli import structure_options
from vlm_dlm.cli.spread import one_option, spread
from vlm_dlm.request import SamplingParams

# Field of SamplingParams, whose default is the option's.
_OPTIONS: dict[str, Any] = {
    "max_tokens": opt.AnswerTokens,
    "temperature": opt.Temperature,
    "top_p": opt.TopP,
    "top_k": opt.TopK,
    "min_p": opt.MinP,
    "min_tokens": opt.MinTokens,
    "ignore_eos": opt.IgnoreEos,
    "seed": opt.Seed,
    "max_thinking_tokens": opt.MaxThinkingTokens,
}
GREEDY = SamplingParams()


def with_sampling(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options in the place of its `sampling`, which it gets checked."""
    parameters = [one_option(name, hint, getattr(GREEDY, name)) for name, hint in _OPTIONS.items()]
    parameters += [one_option(name, hint) for name, hint in structure_options.OPTIONS.items()]
    return spread(command, "sampling", parameters, _sampling)


def _sampling(typed: dict[str, Any]) -> SamplingParams:
    form = {name: typed.pop(name) for name in structure_options.OPTIONS}
    return SamplingParams(**typed, structure=structure_options.structure_of(**form))
