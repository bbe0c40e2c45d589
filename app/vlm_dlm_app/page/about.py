"""Words about the loaded model: what it is, what it can see, how to get the large one."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from vlm_dlm_app.page.options import in_words

if TYPE_CHECKING:
    from vlm_dlm_app.state import Services

REAL_MODEL = "nvidia/Nemotron-Labs-Diffusion-VLM-8B"
# Of `endpoints.py`, one line each.
ENDPOINTS = {
    "modes": "the decoding modes of the loaded model, and the options of each",
    "generate": "one answer about an image, in one mode",
    "compare": "one question in several modes, and how the answers differ",
    "chat": "an answer to the last message of a conversation",
    "sweep": f"one question per combination of {in_words()}",
    "report": "a comparison as an HTML file that opens offline",
}
_EMBEDDED = (
    "It is small and knows drawn scenes and charts: coloured shapes, a few written words, bars. "
    "Photographs are beyond it, and it will describe them wrongly."
)
_OTHER = "It sees photographs, documents and charts; like every such model it can be wrong."

_TEXT_ONLY = "It reads text only: ask without an image. Like every such model it can be wrong."

_LARGE = f"""## The 8B model

On a machine with a GPU of 24 GB or more (less with `--quantize`; `doctor` says what fits):

```
vlm-dlm fetch {REAL_MODEL}
vlm-dlm doctor --model {REAL_MODEL}
vlm-dlm serve --model {REAL_MODEL}
```

`fetch` downloads about 18 GB. The weights are not part of this project and come under a licence of
their own, which says what you may use them for; `fetch` names it and asks. This program itself is
under the Apache License 2.0. `--quantize` needs the extra package torchao."""

_PRIVACY = """## Privacy

Nothing leaves this server and your browser: no analytics, and no request to anywhere else, fonts
included. Other visitors see nothing of yours. An image that you upload is kept in a temporary
folder of the server for about an hour; the words of a chat are forgotten about an hour after you
close the tab. The votes of the blind test are kept in your browser alone. The server's
log has figures and no text."""

_FIGURES = """## What the figures say

- Speeds are measured by the engine while it writes: the network, the queue, image and prompt and
  this page are not in them. An answer of one token has no speed: that token comes with the prompt.
- *First token* counts from when the mode's request was accepted, so waiting in the queue is in it;
  image and prompt are in that of the first mode only, the others take them over.
- Tokens/s is one answer's own speed, not what the machine can do for many at once. If somebody
  else's answer runs at the same time, both are slower.
- One run proves little: the first one after a start is slower, and every run differs by a few
  percent. For a comparison set *Runs* to five or more.
- *Tokens per forward* does not depend on the machine; tokens/s does.
- Lossless modes give the text of the autoregressive mode exactly, in exact arithmetic. In bfloat16
  two nearly equal choices can swap; the badge then names the token and how close they were.
- Block diffusion is not lossless: a lower threshold is faster and may write something else."""


_LOOK = """## Dark and light

The page follows what your system prefers. `?__theme=dark` or `?__theme=light` at the end of its
address chooses."""


def model_line(services: Services) -> str:
    """One line of HTML for the top of the page."""
    return f"<h1>vlm-dlm</h1><p> is running {escape(_name(services))}. {_sees(services)}</p>"


def about_text(services: Services) -> str:
    """Markdown."""
    parts = _loaded(services), _LARGE, _FIGURES, _for_programs(services), _LOOK, _PRIVACY
    return "\n\n".join(parts)


def _for_programs(services: Services) -> str:
    settings = services.settings
    named = "\n".join(f"- `/{name}`: {does}" for name, does in ENDPOINTS.items())
    key = ', headers={"Authorization": "Bearer YOUR_KEY"}' if settings.api_keys else ""
    where = "on, at `/gradio_api/mcp/`" if settings.page_mcp else "off; `--page-mcp` switches it on"
    return f"""## For programs

The HTTP interface is under `/v1`; [/openapi.json](openapi.json) describes it. *Copy as curl* and
*Copy as Python* below a comparison give its call. `gradio_client` calls these:

{named}

```
from gradio_client import Client

client = Client("http://ADDRESS"{key})
reply = client.predict("How many stars?", "", "ar", api_name="/generate")
```

The same as tools for MCP: {where}."""


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
        f"JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF (the first picture of several), up to "
        f"{settings.max_image_bytes // 2**20} MiB and "
        f"{settings.max_image_pixels / 1e6:.0f} megapixels"
    )
    return (
        f"## The loaded model\n\nThis is {name}. {_sees(services)} It remembers nothing "
        f"and looks nothing up.\n\n- Modes: {modes}\n"
        f"- Context: {capabilities.max_context} tokens, image, question and answer together\n"
        f"- Images: {images if services.checkpoint.processor.reads_images else 'none'}"
    )
