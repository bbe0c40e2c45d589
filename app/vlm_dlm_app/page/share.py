"""Links to the settings: what stands in the page's address fills the controls as it opens.

The work is in `static/code.js`; here is which control takes what. Values outside a control's range
never reach it.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gradio as gr

from vlm_dlm_app.page.options import PAGE_OPTIONS

if TYPE_CHECKING:
    from vlm_dlm_app.page.compare import CompareView

MAX_PROMPT_CHARS = 4000  # of a link; browsers and proxies cut longer ones
MAX_SEED = 2**53
# The page's script may come later than Gradio's parts. What the link does not name is left alone:
# a visitor may have changed it meanwhile.
_FILL = """async (...values) => {
  for (let i = 0; i < 100 && !window.vlmDlm?.code; i++) await new Promise((r) => setTimeout(r, 50));
  const filled = window.vlmDlm?.code ? vlmDlm.code.settings(SPECS, values) : values;
  return filled.map((value, i) => (value === values[i] ? { __type__: "update" } : value));
}"""


def add_deep_link(blocks: gr.Blocks, view: CompareView) -> None:
    """Fill the controls from the address. To be called within `blocks`, once the view is there."""
    controls = {
        "prompt": view.prompt,
        "modes": view.modes,
        **{option.field: part for option, part in zip(PAGE_OPTIONS, view.options, strict=True)},
        "max_tokens": view.max_tokens,
        "temperature": view.temperature,
        "seed": view.seed,
        "runs": view.num_runs,
        "parallel": view.parallel,
    }
    specs = [_spec(name, control) for name, control in controls.items()]
    parts = list(controls.values())
    # In a script, where JSON is safe as it is: nothing of a visitor's is in it.
    blocks.load(None, parts, parts, js=_FILL.replace("SPECS", json.dumps(specs)))


def _spec(name: str, control: Any) -> dict[str, Any]:
    """What `vlmDlm.code.settings` must know of one control."""
    if isinstance(control, gr.Slider):
        low, high = control.minimum, control.maximum
        return {"name": name, "kind": "number", "min": low, "max": high, "step": control.step}
    if isinstance(control, gr.Number):
        return {"name": name, "kind": "number", "min": 0, "max": MAX_SEED, "step": 1}
    if isinstance(control, gr.CheckboxGroup):
        choices: list[tuple[str, str]] = control.choices  # pyright: ignore
        return {"name": name, "kind": "choices", "choices": [value for _, value in choices]}
    if isinstance(control, gr.Dropdown):
        choices = control.choices  # pyright: ignore
        return {"name": name, "kind": "choice", "choices": [value for _, value in choices]}
    if isinstance(control, gr.Checkbox):
        return {"name": name, "kind": "flag"}
    return {"name": name, "kind": "text", "max": MAX_PROMPT_CHARS}
