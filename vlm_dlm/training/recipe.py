"""Every hyperparameter of the embedded checkpoint.

The defaults are one run of the kind that made it. The shipped weights came from several such runs,
each begun with the weights of the one before and with settings that changed on the way, so one run
with the defaults is not shown to reach their scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlm_dlm.checkpoint.config import ModelConfig, RopeConfig, VisionConfig

NUM_SPECIAL_IDS = 1000  # ids below are specials, as in the published tokenizer
# Settings that a resumed run may change: when it saves and tests, and how it is computed.
MAY_CHANGE = frozenset(
    {
        "checkpoint_seconds",
        "eval_seconds",
        "eval_batches",
        "log_every",
        "num_workers",
        "compile_layers",
    }
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the checkpoint is built. Sizes of batches are in image cells and in row tokens.

    label_loss_weight: of the mean dense-label loss that keeps the vision part honest while it and
        the decoder learn together, at `joint_vision_factor` times the decoder's rate.
    lesson_steps: first steps of the joint stage, which ask small pictures for look-ups only.
    small_share: of batches that are held to small pictures, on top of those that come out small.
        An object there is a few pixels wide, and half of what was misread was there.
    wide_share: of batches with an aspect of 2:1 to 8:1, which held-out scenes do not have.
    vision_share: part of the time budget that the vision stage takes.
    vision_steps, joint_steps: fixed lengths of the stages; None means the time budget decides.
    clean_tokens, noisy_tokens: slots of the two streams of a packed row.
    prefix_buckets: padded prefix lengths; few, because each one is compiled.
    """

    num_entries: int = 640
    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 64
    intermediate_size: int = 704
    vision_hidden_size: int = 192
    vision_layers: int = 4
    vision_heads: int = 3
    vision_intermediate_size: int = 512

    max_side: int = 448
    image_mean: tuple[float, float, float] = (0.1, 0.5, 0.9)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    num_tokenizer_texts: int = 4000

    vision_share: float = 0.28
    vision_steps: int | None = None
    joint_steps: int | None = None
    vision_cells: int = 2304
    max_vision_images: int = 160
    small_share: float = 0.3
    wide_share: float = 0.1
    lesson_steps: int = 600
    row_tokens: int = 10240
    clean_tokens: int = 128
    noisy_tokens: int = 128
    prefix_buckets: tuple[int, ...] = (32, 64, 96, 128, 192, 288)

    text_only_share: float = 0.03
    caption_share: float = 0.6
    masked_loss_weight: float = 0.7
    label_loss_weight: float = 0.1
    padding_weight: float = 0.1
    embedding_rms: float = 0.5

    vision_muon_lr: float = 0.01
    muon_lr: float = 0.012
    joint_vision_factor: float = 0.0
    muon_momentum: float = 0.95
    muon_weight_decay: float = 0.01
    adam_lr: float = 0.003
    adam_betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 60
    constant_share: float = 0.1
    final_lr_factor: float = 0.01
    clip_norm: float = 5.0

    checkpoint_seconds: float = 120.0
    eval_seconds: float = 120.0
    eval_batches: int = 4
    log_every: int = 10
    num_workers: int = 1
    compile_layers: bool = True

    def model_config(self) -> ModelConfig:
        """Architecture of the checkpoint under the published schema."""
        return ModelConfig(
            vocab_size=NUM_SPECIAL_IDS + self.num_entries,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=4096,
            rope=RopeConfig(rope_theta=10000.0, factor=4.0, original_max_position_embeddings=1024),
            vision=VisionConfig(
                hidden_size=self.vision_hidden_size,
                intermediate_size=self.vision_intermediate_size,
                num_hidden_layers=self.vision_layers,
                num_attention_heads=self.vision_heads,
                head_dim=self.vision_hidden_size // self.vision_heads,
                image_size=448,
                rope_theta=100.0,
            ),
        )
