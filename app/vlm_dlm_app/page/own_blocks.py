"""Gradio's blocks without what a server for everybody must not do."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from inspect import Parameter, signature
from math import isfinite
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.data_classes import BlocksConfigDict
from pydantic import TypeAdapter

from vlm_dlm_app.page.aside import apart, together, values_of

if TYPE_CHECKING:
    from gradio.block_function import BlockFunction
    from gradio.state_holder import SessionState

WRONG = "The server was sent a value that this part of the page does not take."


class OwnBlocks(gr.Blocks):
    """Without the connection that Gradio keeps open to see that a tab is there: browsers have six
    for one server, so the seventh tab would never open. `leaving.py` sees who leaves."""

    def get_config_file(self) -> BlocksConfigDict:
        return {**super().get_config_file(), "connect_heartbeat": False}

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """With the values that came beside the call."""
        values, event = values_of(kwargs.get("request")), kwargs.get("event_data")
        if values is not None:
            kwargs["inputs"] = values.data
            if event is not None:
                event._data = apart(values.event)
        return await super().process_api(*args, **kwargs)

    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        """The values for a function. A wrong one is its sender's fault: a sentence for them and no
        traceback here."""
        try:
            parts = zip(block_fn.inputs, inputs, strict=True)
            passed = [_passed(part, value) for part, value in parts]
            values = await super().preprocess_data(block_fn, passed, state, explicit_call)
            values = [together(value) for value in values]
            _check_types(block_fn, values)
            return [
                _checked(part, value) for part, value in zip(block_fn.inputs, values, strict=True)
            ]
        except Exception:
            raise gr.Error(WRONG, print_exception=False) from None


def _passed(part: Any, value: Any) -> Any:
    """What Gradio gets in place of a value. Raises ValueError for objects where none belong."""
    if not isinstance(value, list | dict):
        return value
    if isinstance(part, Api | gr.BrowserState):  # which pass on what they get
        return apart(value)
    if isinstance(value, dict) or any(isinstance(entry, list | dict) for entry in value):
        raise ValueError("no value of a control")
    return value


def _check_types(block_fn: BlockFunction, values: list[Any]) -> None:
    """Raises ValueError where a named endpoint gets another type than its parameter has."""
    if block_fn.fn is None or block_fn.api_visibility != "public":
        return
    parameters = signature(block_fn.fn).parameters.values()
    for parameter, value in zip(parameters, values, strict=False):
        has_default = parameter.default is not Parameter.empty
        if not (value is None and has_default):
            TypeAdapter(parameter.annotation).validate_python(value, strict=True)


def _checked(part: Any, value: Any) -> Any:
    """The value as the functions of the page expect it. Raises ValueError for one of another type;
    Gradio's parts let some through."""
    if isinstance(part, gr.Textbox):
        return "" if value is None else value
    if isinstance(part, gr.CheckboxGroup):
        return [] if value is None else value
    if isinstance(part, gr.Slider):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and isfinite(value)):
            raise ValueError("no number")
    if isinstance(part, gr.Dropdown) and not isinstance(value, str):
        raise ValueError("no choice")
    return value
