"""The image path against transformers' own packing, and the order of the patch merger."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.twins.mistral3 import mistral3_twin, tiny_config
from vlm_dlm.model.vision import VisionEncoder
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import new_model

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model() -> VlmModel:
    found = new_model(tiny_config(), seed=2)
    assert found.vision is not None
    for name, parameter in found.vision.named_parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8.0)
        elif "norm" in name or "ln_pre" in name:
            parameter.data.uniform_(0.5, 1.5)
    return found.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoder(model: VlmModel) -> VisionEncoder:
    assert model.vision is not None
    return model.vision


@pytest.fixture(scope="module")
def twin(model: VlmModel) -> Any:
    """transformers' own modules with the same weights."""
    return mistral3_twin(model).model


def reference(twin: Any, images: list[Tensor]) -> list[Tensor]:
    """Images [3, H, W] of any sizes through one packed call, then the projector."""
    sizes = [tuple(image.shape[1:]) for image in images]
    padded = torch.zeros(len(images), 3, max(h for h, _ in sizes), max(w for _, w in sizes))
    for row, image in zip(padded, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    patches = twin.vision_tower(padded, image_sizes=sizes).last_hidden_state[0]
    features = twin.multi_modal_projector(patches, sizes)
    return list(features.split([h * w // 28**2 for h, w in sizes]))


def test_images_of_different_size_equal_the_packed_forward(
    encoder: VisionEncoder, twin: Any
) -> None:
    images = [torch.randn(3, 56, 84), torch.randn(3, 112, 28)]
    expected = reference(twin, images)
    for image, wanted in zip(images, expected, strict=True):
        own = encoder(image[None])[0]
        assert own.shape == (image.shape[1] * image.shape[2] // 28**2, 32)
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-5)


def test_images_of_one_call_do_not_see_each_other(encoder: VisionEncoder, twin: Any) -> None:
    images = torch.randn(3, 3, 56, 84)
    together = encoder(images)
    assert together.shape == (3, 6, 32)
    expected = reference(twin, list(images))
    torch.testing.assert_close(together, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_rows_and_columns_are_told_apart(encoder: VisionEncoder) -> None:
    """A transposed image is not the transpose of its features: rotary sees both axes."""
    image = torch.randn(1, 3, 56, 56)
    features = encoder(image).unflatten(1, (2, 2))
    flipped = encoder(image.transpose(2, 3)).unflatten(1, (2, 2)).transpose(1, 2)
    assert (features - flipped).abs().max() > 1e-3


def test_in_bfloat16_it_is_as_near_as_its_twin(model: VlmModel) -> None:
    """Norms are computed in float32 in both."""
    images = torch.randn(2, 3, 56, 84)
    exact = reference(mistral3_twin(model).model, list(images))
    low = copy.deepcopy(model).bfloat16()
    assert low.vision is not None
    twin = mistral3_twin(model).model.bfloat16()
    for own, other, wanted in zip(
        low.vision(images), reference(twin, list(images.bfloat16())), exact, strict=True
    ):
        assert own.dtype == torch.bfloat16
        assert (own - wanted).abs().mean() < 1.5 * (other - wanted).abs().mean()


def test_it_needs_no_transformers() -> None:
    """Which takes more to import than all the rest of an engine."""
    code = (
        "import sys\nfrom tests.twins.mistral3 import tiny_config\n"
        "from vlm_dlm.model.weights import new_model\nnew_model(tiny_config(), seed=0)\n"
        "sys.exit('transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_patch_merger_is_channel_slowest(encoder: VisionEncoder) -> None:
    """A cell's vector is c * 4 + dy * 2 + dx; cells come in raster order."""
    merger, width, rows, columns = encoder.multi_modal_projector.patch_merger, 32, 4, 6
    seen: list[Tensor] = []
    hook = merger.merging_layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    # The patch at (y, x) holds, in channel c, where the merger must put it inside its cell,
    # plus 1000 times the number of the cell.
    y, x, c = torch.meshgrid(
        torch.arange(rows), torch.arange(columns), torch.arange(width), indexing="ij"
    )
    cell = (y // 2) * (columns // 2) + x // 2
    patches = (cell * 1000 + c * 4 + (y % 2) * 2 + x % 2).float().flatten(0, 1)
    merger(patches[None], rows, columns)
    hook.remove()
    expected = torch.arange(6)[:, None] * 1000 + torch.arange(4 * width)
    assert torch.equal(seen[0][0], expected.float())
