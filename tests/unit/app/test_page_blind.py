"""A vote is revealed with figures that compare, and kept with speeds that say something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from tests.unit.app.page_records import make_record
from vlm_dlm.engine.scripted_engine import ScriptedEngine
from vlm_dlm_app.page.blind import Round, reveal, vote_of
from vlm_dlm_app.schemas.compare import ModeResult
from vlm_dlm_app.state import Services

SERVICES = cast("Services", SimpleNamespace(engine=ScriptedEngine()))


def round_with(**changes: Any) -> Round:
    answers = make_record()["answers"].values()
    results = [ModeResult(**{**answer["result"], **changes}) for answer in answers]
    return Round("What?", (results[0], results[1]), 2)


def test_the_first_token_is_not_compared_as_one_paid_for_the_other() -> None:
    told = reveal(SERVICES, round_with(), "A")
    assert told.count("100.0 tokens/s") == 2
    assert "first token" not in told


def test_a_vote_has_no_speed_of_an_answer_that_is_too_short() -> None:
    assert vote_of(round_with(), "A")["tokens_per_second_a"] == 100.0
    assert vote_of(round_with(num_tokens=1), "A")["tokens_per_second_a"] is None
    assert "too short to measure" in reveal(SERVICES, round_with(num_tokens=1), "A")
