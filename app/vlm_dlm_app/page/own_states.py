"""What Gradio keeps with each session, without what it would keep for links into the page: how
every part looks, what was sent to it, pictures too, and what it shows. Making that anew costs the
event loop twenty milliseconds for each session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

if TYPE_CHECKING:
    from fastapi import FastAPI
    from gradio import Blocks


class OwnState(SessionState):
    """Values of `gr.State`, and nothing of other parts."""

    def __init__(self, blocks: Blocks) -> None:
        # of the parts named in `blocks` it would note how they look
        super().__init__(
            cast("Blocks", SimpleNamespace(default_config=blocks.default_config, blocks={}))
        )
        self.config_values = _Forgetful()

    def _update_config(self, key: int) -> None:
        pass


class OwnStates(StateHolder):
    """Sessions by name, with states of ours."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = OwnState(self.blocks)
        return super().__getitem__(session_id)


class _Forgetful(dict[int, Any]):
    """Whatever is asked for is there, and empty."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: int) -> dict[str, Any]:
        return {}

    def __setitem__(self, key: int, value: Any) -> None:
        pass


def keep_own_states(app: FastAPI, blocks: Blocks) -> None:
    """Put them in the place of Gradio's. app: in which its own is mounted."""
    (inner,) = [
        part for route in app.routes if isinstance(part := getattr(route, "app", None), App)
    ]
    inner.state_holder = OwnStates()
    inner.state_holder.set_blocks(blocks)
