"""Whole samples: deterministic, of the right size, decodable."""

import io

import numpy as np
import pytest
from PIL import Image

from vlm_dlm.scenes.labels import grid_of
from vlm_dlm.scenes.language import caption
from vlm_dlm.scenes.samples import encode_image, make_sample, sample_rng


def test_same_index_gives_the_same_sample() -> None:
    for index in range(12):
        one, two = make_sample(index, "train"), make_sample(index, "train")
        assert one.image.tobytes() == two.image.tobytes()
        assert (one.scene, one.caption, one.questions) == (two.scene, two.caption, two.questions)
        assert all((one.labels[name] == two.labels[name]).all() for name in one.labels)


def test_splits_and_seeds_differ() -> None:
    scenes = [
        make_sample(5, "train").scene,
        make_sample(5, "heldout").scene,
        make_sample(5, "train", seed=1).scene,
    ]
    assert len(set(scenes)) == 3


def test_unknown_split_is_rejected() -> None:
    with pytest.raises(ValueError, match="unknown split 'test'"):
        make_sample(0, "test")


def test_image_caption_and_grid_agree_with_the_scene() -> None:
    for index in range(80):
        sample = make_sample(index, "heldout", max_side=300)
        assert sample.image.mode == "RGB"
        assert sample.image.size == (sample.scene.width, sample.scene.height)
        assert max(sample.image.size) <= 300
        assert sample.caption == caption(sample.scene)
        assert sample.num_cells == grid_of(*sample.image.size)
        assert np.asarray(sample.image).std() > 1
        assert 1 <= len(sample.questions) <= 8


def test_encoded_images_decode() -> None:
    image = make_sample(1, "heldout").image
    formats = set()
    for index in range(12):
        data, name = encode_image(image, sample_rng(index, "heldout"))
        decoded = Image.open(io.BytesIO(data))
        assert decoded.format == name.upper()
        assert decoded.size == image.size
        formats.add(name)
    assert formats == {"png", "jpeg"}
