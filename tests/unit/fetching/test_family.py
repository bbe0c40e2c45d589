"""What is known of the published checkpoints, against their published sizes."""

from __future__ import annotations

import pytest

from vlm_dlm.checkpoint.family import FULL_MODEL, MEMBERS, split_hub_id
from vlm_dlm.checkpoint.listing import is_wanted
from vlm_dlm.checkpoint.model_types import expected_tensors
from vlm_dlm.defaults import num_parameters
from vlm_dlm.errors import CheckpointError

# Tensors and parameters. The text 8B's file is published as 16.98 GB in two bytes per parameter,
# the 14B's download as 25.3 GiB with its adapter; the others follow from their configs.
SIZES = {
    FULL_MODEL: (531, 8_918_034_432),
    "nvidia/Nemotron-Labs-Diffusion-3B": (237, 3_831_659_520),
    "nvidia/Nemotron-Labs-Diffusion-8B": (309, 8_489_553_920),
    "nvidia/Nemotron-Labs-Diffusion-14B": (363, 13_506_073_600),
}


def test_sizes_of_the_family() -> None:
    found = {
        repo: (len(expected_tensors(member.config)), num_parameters(member.config))
        for repo, member in MEMBERS.items()
    }
    assert found == SIZES
    assert 2 * SIZES["nvidia/Nemotron-Labs-Diffusion-8B"][1] == 16_979_107_840


def test_the_vlm_is_pinned_and_its_licence_is_its_own() -> None:
    text = MEMBERS["nvidia/Nemotron-Labs-Diffusion-8B"]
    vlm = MEMBERS[FULL_MODEL]
    assert vlm.revision == "c6706ba71b824c2c61a94a804da8255c1eb5d30d"
    assert vlm.licence != text.licence
    assert vlm.licence.is_named_by(" NSCLv1 ")
    assert vlm.licence.is_named_by("nvidia source code license")
    assert not vlm.licence.is_named_by(text.licence.id)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (FULL_MODEL, (FULL_MODEL, "c6706ba71b824c2c61a94a804da8255c1eb5d30d")),
        (f"{FULL_MODEL}@main", (FULL_MODEL, "main")),
        ("a/b", ("a/b", None)),
    ],
)
def test_hub_ids(typed: str, expected: tuple[str, str | None]) -> None:
    assert split_hub_id(typed) == expected


def test_what_is_no_hub_id() -> None:
    with pytest.raises(CheckpointError, match="is no Hub id"):
        split_hub_id("/some/folder")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("model-00001-of-00004.safetensors", True),
        ("linear_spec_lora/adapter_config.json", True),
        ("chat_template.jinja", True),
        ("LICENSE", True),
        ("LICENSE.py", False),
        ("modeling_ministral.py", False),
        ("pytorch_model.bin", False),
        ("assets/demo.mp4", False),
        ("README.md", False),
    ],
)
def test_what_is_fetched_of_a_repository(name: str, wanted: bool) -> None:
    assert is_wanted(name) is wanted
