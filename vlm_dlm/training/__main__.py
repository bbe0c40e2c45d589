"""Command line of the training run: `python -m vlm_dlm.training --out FOLDER --minutes 425`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

log = logging.getLogger("vlm_dlm.training")


def main() -> None:
    """Parse arguments and train the shipped recipe."""
    parser = argparse.ArgumentParser(description="Train the embedded checkpoint.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--minutes", type=float, default=425.0, help="time budget of the whole run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--start", type=Path, help="finished checkpoint to begin with")
    parser.add_argument("--vision-share", type=float, help="part of the time for the vision stage")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    from vlm_dlm.training.recipe import Recipe
    from vlm_dlm.training.trainer import train

    recipe = Recipe()
    if arguments.vision_share is not None:
        recipe = replace(recipe, vision_share=arguments.vision_share)
    train(
        recipe,
        arguments.out,
        arguments.minutes,
        arguments.seed,
        arguments.resume,
        arguments.device,
        _log_record,
        arguments.start,
    )


def _log_record(record: dict[str, Any]) -> None:
    log.info(" ".join(f"{name}={_short(value)}" for name, value in record.items()))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
