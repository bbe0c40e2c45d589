"""The table of questions that need the weights. Imports torch."""

from __future__ import annotations

from vlm_dlm.verify import model_checks as model
from vlm_dlm.verify.finding import Check
from vlm_dlm.verify.trial import Trial

MODEL_CHECKS: tuple[Check[Trial], ...] = (
    Check(
        "alignment",
        "in a full forward row i predicts token i",
        "none: a checkpoint with shifted logits is not supported",
        model.alignment,
    ),
    Check(
        "mask_id",
        "the model fills in what mask_token_id hides",
        "mask_token_id in config.json",
        model.mask_id,
    ),
    Check(
        "seeding",
        "a block's first token comes from the forward before it",
        "--no-seed-first-token (an option of the command line and Python, not of requests)",
        model.seeding,
    ),
    Check(
        "end_of_answer",
        "answers end with <|im_end|>",
        "eos_token_id in config.json; </s> ends an answer too",
        model.end_of_answer,
    ),
    Check(
        "no_thoughts",
        "with thinking off answers hold no think markers",
        "chat_template.jinja in the checkpoint folder, which must close the thought",
        model.no_thoughts,
    ),
    Check(
        "linear_lossless",
        "linear_spec writes what ar writes",
        "--dtype float32, or --mode ar",
        model.linear_lossless,
    ),
    Check(
        "quadratic_lossless",
        "quadratic_spec writes what ar writes",
        "--dtype float32, or --mode ar",
        model.quadratic_lossless,
    ),
    Check(
        "quadratic_positions",
        "queries are scaled by their position, also in branches that repeat positions",
        "--mode linear_spec for prompts past original_max_position_embeddings",
        model.quadratic_positions,
    ),
    Check(
        "diffusion_rate",
        "diffusion writes about as many tokens per forward as published",
        "--block-length, --threshold, --no-seed-first-token",
        model.diffusion_rate,
    ),
    Check(
        "linear_rate",
        "linear_spec writes about as many tokens per forward as published",
        "--adapter DIR, --block-length",
        model.linear_rate,
    ),
    Check(
        "threshold_rounding",
        "in bfloat16 a confidence of 0.8984375 passes a threshold of 0.9",
        "is_native_confidence of BlockDiffusionParams, in Python only",
        model.threshold_rounding,
    ),
)
