"""Words about the loaded model: what it is, what it can see, how to get the large one."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.state import Services

REAL_MODEL = "nvidia/Nemotron-Labs-Diffusion-VLM-8B"
_EMBEDDED = (
    "It is small and knows drawn scenes and charts: coloured shapes, a few written words, bars. "
    "Photographs are beyond it, and it will describe them wrongly."
)
_OTHER = "It sees photographs, documents and charts; like every such model it can be wrong."

_TEXT_ONLY = "It reads text only: ask without an image. Like every such model it can be wrong."

_LARGE = f"""### The 8B model

On a machine with a GPU of 24 GB or more, start the server with

```
vlm-dlm serve --model {REAL_MODEL}
```

The first start downloads about 17 GB. The weights are not part of this project and come under a
licence of their own, which says what you may use them for: read it on the model's page before you
do. This program itself is under the Apache License 2.0."""

_PRIVACY = """### Privacy

Nothing leaves this server and your browser: no analytics, and no request to anywhere else, fonts
included. Other visitors see nothing of yours. An image that you upload is kept in a temporary
folder of the server for about an hour; the words of a chat are forgotten about an hour after you
close the tab. The votes of the blind test are kept in your browser alone. The server's
log has figures and no text."""

_FIGURES = """### What the figures say

- Speeds are measured by the engine while it writes. The network, the queue and this page are not
  in them. *First token* counts from the place in the queue, so it includes the image.
- Tokens/s is one answer's own speed, not what the machine can do for many at once. If somebody
  else's answer runs at the same time, both are slower.
- One run proves little: the first one after a start is slower, and every run differs by a few
  percent. For a comparison set *Runs* to five or more.
- *Tokens per forward* does not depend on the machine; tokens/s does.
- Lossless modes give the text of the autoregressive mode exactly, in exact arithmetic. In bfloat16
  two nearly equal choices can swap; the badge then names the token and how close they were.
- Block diffusion is not lossless: a lower threshold is faster and may write something else."""


def model_line(services: Services) -> str:
    """One line of HTML for the top of the page."""
    return (
        f"<p><strong>vlm-dlm</strong> is running {escape(_name(services))}. {_sees(services)}</p>"
    )


def about_text(services: Services) -> str:
    """Markdown."""
    return "\n\n".join((_loaded(services), _LARGE, _FIGURES, _PRIVACY))


def _name(services: Services) -> str:
    model = services.settings.model
    return "the embedded model" if model is None else model


def _sees(services: Services) -> str:
    if services.settings.model is None:
        return _EMBEDDED
    return _OTHER if services.checkpoint.processor.reads_images else _TEXT_ONLY


def _loaded(services: Services) -> str:
    settings, capabilities = services.settings, services.engine.capabilities
    modes = ", ".join(info.title for info in capabilities.modes)
    # In a code span nothing of a path is read as markup.
    name = _name(services) if settings.model is None else f"`{settings.model.replace('`', '_')}`"
    images = (
        f"PNG, JPEG, WebP and GIF (its first picture), up to "
        f"{settings.max_image_bytes // 2**20} MiB and "
        f"{settings.max_image_pixels / 1e6:.0f} megapixels"
    )
    return (
        f"### The loaded model\n\nThis is {name}. {_sees(services)} It remembers nothing "
        f"and looks nothing up.\n\n- Modes: {modes}\n"
        f"- Context: {capabilities.max_context} tokens, image, question and answer together\n"
        f"- Images: {images if services.checkpoint.processor.reads_images else 'none'}"
    )
