"""Options that several commands share, with their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlm_dlm.answer_room import DEFAULT_MAX_TOKENS

ImagePaths = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="PATH", help="Image file; repeat for several."),
]
PromptText = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What to ask.")]
SystemText = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="System message.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", metavar="N", help="Longest answer.")]
AnswerTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        metavar="N",
        help="Longest answer.",
        show_default=f"what fits, at most {DEFAULT_MAX_TOKENS}",
    ),
]
Temperature = Annotated[
    float, typer.Option(metavar="T", help="0 is greedy; higher is more varied.")
]
TopP = Annotated[float, typer.Option("--top-p", metavar="P", help="Nucleus sampling mass.")]
TopK = Annotated[
    int, typer.Option("--top-k", metavar="K", help="Draw from the K best tokens; 0 for all.")
]
MinP = Annotated[
    float,
    typer.Option(
        "--min-p", metavar="P", help="Least probability drawn, as a share of the best token's."
    ),
]
MinTokens = Annotated[
    int, typer.Option("--min-tokens", metavar="N", help="No end of the answer before N tokens.")
]
IgnoreEos = Annotated[
    bool, typer.Option("--ignore-eos", help="Write on after end tokens, up to --max-tokens.")
]
Seed = Annotated[
    int | None, typer.Option(metavar="S", help="Same seed, same answer.", show_default="random")
]
MaxThinkingTokens = Annotated[
    int | None,
    typer.Option(
        "--max-thinking-tokens", metavar="N", help="Let the model think first, N tokens at most."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="DIR_OR_ID",
        help="Checkpoint folder, or Hub id: org/name or org/name@revision.",
        show_default="the embedded model",
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Draft adapter for linear_spec (a PEFT folder)."),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to run.")]
Dtype = Annotated[
    str, typer.Option(metavar="auto|float32|bfloat16", help="Number format of the weights.")
]
Quantize = Annotated[
    str | None,
    typer.Option(
        metavar="int8|int4",
        help="Store the decoder's matrices in 8 or 4 bits (needs torchao).",
        show_default="none",
    ),
]
Exif = Annotated[
    bool, typer.Option("--exif/--no-exif", help="Turn photos upright as their EXIF data says.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
