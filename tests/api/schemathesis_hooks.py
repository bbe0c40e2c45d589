"""Loaded by schemathesis for test_schemathesis.py."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, HookContext

MIN_DEADLINE_S = 20


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Deadlines that pass before any answer can be there are rightly answered by 503, which counts
    as the server's fault here; so they are made longer."""
    body: Any = case.body
    for place in (body, body.get("options") if isinstance(body, dict) else None):
        if isinstance(place, dict):
            deadline_s = place.get("deadline_s")
            if isinstance(deadline_s, float | int) and 0 < deadline_s < MIN_DEADLINE_S:
                place["deadline_s"] = MIN_DEADLINE_S
