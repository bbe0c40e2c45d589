"""Random schemas in every mode: is each whole answer valid, and do lossless modes write what `ar`
writes? `python -m benchmarks.structure_check --num 1000`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import warnings
from collections import Counter
from typing import Any

from tests.schemas import random_schema
from vlm_dlm.decoding import MODES
from vlm_dlm.events import Committed, Failed, Finished
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.structure import Structure, StructureKind

PROMPT = "Describe the image as JSON."
MAX_TOKENS = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=0.0)
    given = parser.parse_args()
    runtime = Runtime.load(None, "cpu", "float32")
    prompt = runtime.inputs(runtime.prompt(PROMPT))
    counts: Counter[str] = Counter()
    began_s = time.perf_counter()
    for seed in range(given.first, given.first + given.num):
        check(runtime, prompt, seed, given.temperature, counts)
    counts["seconds"] = round(time.perf_counter() - began_s)
    print(json.dumps(counts, indent=2, sort_keys=True))
    return 1 if counts["invalid"] or counts["different"] or counts["failed"] else 0


def check(
    runtime: Runtime, prompt: PromptInput, seed: int, temperature: float, counts: Counter[str]
) -> None:
    """One schema in all modes."""
    schema = random_schema(random.Random(seed))
    structure = Structure(StructureKind.JSON, json.dumps(schema))
    sampling = SamplingParams(temperature, seed=seed, max_tokens=MAX_TOKENS, structure=structure)
    texts: dict[str, tuple[str, str]] = {}
    for mode in MODES:
        texts[mode] = text, reason = answer(runtime, prompt, mode, sampling)
        counts[f"{mode} {reason}"] += 1
        if reason == "stop" and not is_valid(text, schema):
            counts["invalid"] += 1
            print("invalid", seed, mode, text, file=sys.stderr)
        if reason not in ("stop", "length"):
            counts["failed"] += 1
            print("failed", seed, mode, text, file=sys.stderr)
        if temperature == 0 and MODES[mode].is_lossless and texts[mode] != texts["ar"]:
            counts["different"] += 1
            print("different", seed, mode, texts[mode], texts["ar"], file=sys.stderr)


def answer(
    runtime: Runtime, prompt: PromptInput, mode: str, sampling: SamplingParams
) -> tuple[str, str]:
    """Text and why it ended."""
    text, reason = "", ""
    for event in runtime.core.run([GenerationRequest("one", prompt, mode, sampling=sampling)]):
        if isinstance(event, Committed | Finished):
            text += event.text
        if isinstance(event, Finished):
            reason = event.reason
        if isinstance(event, Failed):
            reason, text = "failed", event.message
    return text, reason


def is_valid(text: str, schema: Any) -> bool:
    """By a validator that shares nothing with the grammar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import jsonschema
    try:
        jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        ).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
