"""What a form costs a forward: `python -m benchmarks.structure_overhead`.

The same answers with and without a grammar that allows every text, in turns within one run, so the
model does the same work and only the rule is added; and with a JSON schema, by forward. Embedded
checkpoint, CPU, batch 1, warm.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence

import torch

from vlm_dlm.decoding import MODES
from vlm_dlm.events import Finished, Stats
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.structure import Structure, StructureKind

FORMS = {
    "any text": Structure(StructureKind.REGEX, "(?s:.*)"),
    "JSON": Structure(
        StructureKind.JSON,
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "shape": {"enum": ["circle", "square", "triangle"]},
                    "count": {"type": "integer", "minimum": 0, "maximum": 20},
                    "words": {"type": "array", "items": {"type": "string", "maxLength": 12}},
                },
                "required": ["shape", "count", "words"],
                "additionalProperties": False,
            }
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=64)
    given = parser.parse_args()
    runtime = Runtime.load(None, "cpu", "float32")
    prompt = runtime.inputs(runtime.prompt("Describe the image.", ["assets/examples/shapes.png"]))
    print(f"threads {torch.get_num_threads()}, {given.repeats} pairs, medians and quartiles")
    print("mode            form       per forward   with/without")
    for mode in MODES:
        for name, structure in FORMS.items():
            ratios, seconds = pairs(
                runtime, prompt, mode, structure, given.repeats, given.max_tokens
            )
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(
                f"{mode:15} {name:10} {1e6 * statistics.median(seconds):8.0f} us   "
                f"{middle:.3f} ({low:.3f} to {high:.3f})"
            )


def pairs(
    runtime: Runtime,
    prompt: PromptInput,
    mode: str,
    structure: Structure,
    repeats: int,
    max_tokens: int,
) -> tuple[Sequence[float], Sequence[float]]:
    """Time per forward with the form over that without, of each pair; and with it, in seconds."""
    ratios: list[float] = []
    seconds: list[float] = []
    for number in range(repeats + 2):
        order: tuple[Structure | None, ...] = (None, structure)
        took: dict[Structure | None, float] = {}
        for form in order if number % 2 else reversed(order):
            sampling = SamplingParams(max_tokens=max_tokens, structure=form)
            stats = answer(runtime, prompt, mode, sampling)
            took[form] = stats.decode_s / max(sum(stats.forwards_by_kind.values()), 1)
        if number >= 2:  # the first warm up
            ratios.append(took[structure] / took[None])
            seconds.append(took[structure])
    return ratios, seconds


def answer(runtime: Runtime, prompt: PromptInput, mode: str, sampling: SamplingParams) -> Stats:
    request = GenerationRequest("one", prompt, mode, sampling=sampling)
    (end,) = [event for event in runtime.core.run([request]) if isinstance(event, Finished)]
    return end.stats


if __name__ == "__main__":
    main()
