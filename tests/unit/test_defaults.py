"""What 'auto' chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import tiny_config
from vlm_dlm import defaults
from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.defaults import (
    cache_bytes_per_token,
    check_choice,
    choose_dtype,
    embedded_checkpoint,
    num_parameters,
)
from vlm_dlm.errors import BadInputError, CheckpointError


def test_float32_where_the_weights_fit_into_half_of_the_memory() -> None:
    config = tiny_config()
    needed = 4 * num_parameters(config)
    assert choose_dtype(config, "cpu", 2 * needed) == "float32"
    assert choose_dtype(config, "cpu", 2 * needed - 1) == "bfloat16"
    assert choose_dtype(config, "cpu", None) == "float32"
    assert choose_dtype(config, "cuda", 10**15) == "bfloat16"


def test_the_published_model_takes_136_kib_of_cache_per_token_in_bfloat16() -> None:
    assert cache_bytes_per_token(ModelConfig(), "bfloat16") == 34 * 2 * 8 * 128 * 2


def test_unknown_choices_are_listed() -> None:
    with pytest.raises(BadInputError, match="unknown device 'tpu'; choose auto, cpu, cuda"):
        check_choice("device", "tpu", defaults.DEVICES)


def test_a_missing_embedded_checkpoint_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "__file__", str(tmp_path / "vlm_dlm" / "defaults.py"))
    with pytest.raises(CheckpointError, match="--model"):
        embedded_checkpoint()
    for place in ("assets/embedded", "vlm_dlm/_embedded"):  # the packaged one wins
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
        assert embedded_checkpoint() == folder.resolve()
