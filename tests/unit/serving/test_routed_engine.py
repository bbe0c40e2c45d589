"""Several engines as one: whose limits, whose state, whose loss."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.api.serving import PlayedEngine
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.errors import ModeError
from vlm_dlm.request import GenerationRequest, PromptInput
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.routed_engine import RoutedEngine


def parts() -> tuple[PlayedEngine, PlayedEngine, RoutedEngine]:
    fast = PlayedEngine(Script(max_running=4), modes=("ar",))
    own = PlayedEngine(Script(max_running=3, max_cache_tokens=100))
    return fast, own, RoutedEngine({"diffusion": own, "ar": fast})


def test_capabilities() -> None:
    _, own, routed = parts()
    whole = routed.capabilities
    assert [mode.name for mode in whole.modes] == ["diffusion", "ar"]
    assert (whole.max_running, whole.max_cache_tokens) == (7, 100)
    assert routed.capabilities_of("ar").max_cache_tokens is None
    assert routed.capabilities_of("diffusion") == own.capabilities
    with pytest.raises(ModeError, match="the modes are diffusion, ar"):
        routed.capabilities_of("linear_spec")


def test_it_is_as_well_as_its_worst_part() -> None:
    fast, own, routed = parts()
    order = [Phase.CLOSED, Phase.DOWN, Phase.LOADING, Phase.WARMING, Phase.READY]
    for worse, better in pairwise(order):
        for one, other in ((fast, own), (own, fast)):
            one.set_phase(worse, "why")
            other.set_phase(better)
            assert (routed.state.phase, routed.state.reason) == (worse, "why")
            assert routed.state_of(None).phase is better
    assert routed.state_of("ar") == fast.state
    assert routed.state_of("diffusion") == own.state


def test_it_is_lost_when_no_part_is_left() -> None:
    fast, own, routed = parts()
    told: list[bool] = []
    routed.on_lost(lambda: told.append(True))
    own.set_phase(Phase.READY)
    fast.lose()
    assert not told
    own.lose()
    assert told == [True]


def test_an_unknown_mode_reaches_no_part() -> None:
    async def run() -> None:
        _, _, routed = parts()
        await routed.start()
        request = GenerationRequest("one", PromptInput((1,)), "linear_spec")
        with pytest.raises(ModeError):
            await anext(aiter(routed.generate(request)))
        await routed.close()
        assert routed.state.phase is Phase.CLOSED

    asyncio.run(run())
