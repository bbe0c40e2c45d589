"""The image path against transformers' own packing, and the order of the patch merger."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.twins.mistral3 import tiny_config
from vlm_dlm.model.vision import VisionEncoder, pixtral_config
from vlm_dlm.model.weights import new_model


@pytest.fixture(scope="module")
def encoder() -> VisionEncoder:
    vision = new_model(tiny_config(), seed=2).vision
    assert vision is not None
    for parameter in vision.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8.0)
    return vision.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pixtral(encoder: VisionEncoder) -> Any:
    from transformers import PixtralVisionModel

    tower = PixtralVisionModel(pixtral_config(tiny_config()))
    tower.load_state_dict(encoder.vision_tower.state_dict(), strict=True)
    return tower.eval()


def reference(encoder: VisionEncoder, pixtral: Any, images: list[Tensor]) -> list[Tensor]:
    """Images [3, H, W] of any sizes through one packed call, then the projector."""
    sizes = [tuple(image.shape[1:]) for image in images]
    padded = torch.zeros(len(images), 3, max(h for h, _ in sizes), max(w for _, w in sizes))
    for row, image in zip(padded, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    patches = pixtral(padded, image_sizes=sizes).last_hidden_state[0]
    features = encoder.multi_modal_projector(patches, sizes)
    return list(features.split([h * w // 28**2 for h, w in sizes]))


def test_images_of_different_size_equal_the_packed_forward(
    encoder: VisionEncoder, pixtral: Any
) -> None:
    images = [torch.randn(3, 56, 84), torch.randn(3, 112, 28)]
    expected = reference(encoder, pixtral, images)
    for image, wanted in zip(images, expected, strict=True):
        own = encoder(image[None])[0]
        assert own.shape == (image.shape[1] * image.shape[2] // 28**2, 32)
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-5)


def test_images_of_one_call_do_not_see_each_other(encoder: VisionEncoder, pixtral: Any) -> None:
    images = torch.randn(3, 3, 56, 84)
    together = encoder(images)
    assert together.shape == (3, 6, 32)
    expected = reference(encoder, pixtral, list(images))
    torch.testing.assert_close(together, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_rows_and_columns_are_told_apart(encoder: VisionEncoder) -> None:
    """A transposed image is not the transpose of its features: rotary sees both axes."""
    image = torch.randn(1, 3, 56, 56)
    features = encoder(image).unflatten(1, (2, 2))
    flipped = encoder(image.transpose(2, 3)).unflatten(1, (2, 2)).transpose(1, 2)
    assert (features - flipped).abs().max() > 1e-3


def test_tower_runs_on_sdpa(encoder: VisionEncoder) -> None:
    attention = encoder.vision_tower.transformer.layers[0].attention
    assert attention.config._attn_implementation == "sdpa"
    assert attention.is_causal is False


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
    merger(patches, [(rows * 14, columns * 14)])
    hook.remove()
    expected = torch.arange(6)[:, None] * 1000 + torch.arange(4 * width)
    assert torch.equal(seen[0], expected.float())
