"""Modes, options and prompts are refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vlm_dlm.decoding import MODES
from vlm_dlm.errors import BadInputError, ImageError, ModeError, PromptError
from vlm_dlm.preflight import (
    MAX_IMAGES,
    check_number,
    conversation,
    mode_params,
    open_checkpoint,
    parse_modes,
    prepare_prompt,
    read_images,
)


def test_no_names_means_all_modes() -> None:
    assert parse_modes(None) == tuple(MODES)


def test_names_and_aliases_become_names() -> None:
    assert parse_modes("dlm, ar") == ("diffusion", "ar")
    assert parse_modes(["linear"]) == ("linear_spec",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ar,nope", "unknown mode 'nope'; the modes are ar, diffusion"),
        ("", "unknown mode ''"),
        ("ar,ar", "ar is listed twice"),
        ("diffusion,dlm", "diffusion is listed twice"),
    ],
)
def test_bad_lists_of_modes(names: str, message: str) -> None:
    with pytest.raises(ModeError, match=message):
        parse_modes(names)
    with pytest.raises(ModeError, match="no mode given"):
        parse_modes([])


def test_an_option_goes_to_the_modes_that_have_it() -> None:
    options = {"threshold": 0.5}
    params = mode_params(("ar", "diffusion", "quadratic_spec"), options, is_shared=True)
    assert params["diffusion"].threshold == 0.5
    assert params["ar"] == MODES["ar"].Params()
    assert params["quadratic_spec"] == MODES["quadratic_spec"].Params()


def test_an_option_that_no_mode_has() -> None:
    with pytest.raises(ModeError, match="none of the modes ar, quadratic_spec has an option thr"):
        mode_params(("ar", "quadratic_spec"), {"threshold": 0.5}, is_shared=True)
    with pytest.raises(ModeError, match="mode ar has no option threshold"):
        mode_params(("ar",), {"threshold": 0.5})


def test_a_value_that_one_mode_cannot_run() -> None:
    with pytest.raises(ModeError, match="quadratic_spec runs block lengths 2 to 32, not 64"):
        mode_params(tuple(MODES), {"block_length": 64}, is_shared=True)


def test_no_threshold_is_a_value_that_block_diffusion_alone_has() -> None:
    """It chooses the fixed schedule, which nothing else can."""
    assert mode_params(("diffusion",), {"threshold": None})["diffusion"].threshold is None
    with pytest.raises(ModeError, match="linear_spec takes a threshold of 0 to 1, not none"):
        mode_params(("linear_spec",), {"threshold": None})


@pytest.mark.parametrize("mode", MODES)
def test_no_options_are_the_defaults(mode: str) -> None:
    assert mode_params((mode,), {}) == {mode: MODES[mode].Params()}


def test_images_from_paths_bytes_and_memory(scene_file: Path) -> None:
    grey = Image.new("L", (20, 10))
    images = read_images([scene_file, str(scene_file), scene_file.read_bytes(), grey])
    assert [image.mode for image in images] == ["RGB"] * 4
    assert images[0].tobytes() == images[1].tobytes() == images[2].tobytes()


def test_an_empty_path_of_an_image() -> None:
    with pytest.raises(ImageError, match="the path of an image is empty"):
        read_images([""])


def test_too_many_images(scene_file: Path) -> None:
    with pytest.raises(ImageError, match=f"the limit is {MAX_IMAGES}"):
        read_images([scene_file] * (MAX_IMAGES + 1))


def test_prompt_and_answer_must_fit_together(tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint)
    limit = checkpoint.config.max_position_embeddings
    messages = conversation("Hello", 0)
    num = len(prepare_prompt(checkpoint, messages, (), 1).token_ids)
    prepare_prompt(checkpoint, messages, (), limit - num)
    with pytest.raises(PromptError, match=f"context length is {limit}"):
        prepare_prompt(checkpoint, messages, (), limit - num + 1)


def test_system_turn_comes_first() -> None:
    roles = [message.role for message in conversation("Hello", 2, "Be brief.")]
    assert roles == ["system", "user"]


@pytest.mark.parametrize("value", [-1.0, 11.0, float("nan")])
def test_numbers_out_of_range(value: float) -> None:
    with pytest.raises(BadInputError, match="must lie in 0 to 10"):
        check_number("num", value, 0, 10)
