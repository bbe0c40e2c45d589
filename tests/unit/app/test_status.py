from __future__ import annotations

from typing import get_args

from vlm_dlm.serving.engine_state import Phase
from vlm_dlm_app.routes.status import Status


def test_health_can_tell_every_phase() -> None:
    assert set(get_args(Status)) == {phase.value for phase in Phase} | {"draining"}
