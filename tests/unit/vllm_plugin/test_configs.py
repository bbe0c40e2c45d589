"""Our config.json as vLLM's models read it. Needs transformers and no vLLM."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vlm_dlm.checkpoint.config import TEXT_TYPE, ModelConfig
from vlm_dlm.checkpoint.model_types import written_config
from vlm_dlm.vllm_plugin.configs import TextConfig, VlmConfig
from vlm_dlm.vllm_plugin.stand_in import torchvision_stand_in

EMBEDDED = Path(__file__).parents[3] / "assets" / "embedded" / "config.json"
PUBLISHED = written_config(ModelConfig())


def embedded(**changes: Any) -> dict[str, Any]:
    return {**json.loads(EMBEDDED.read_text()), **changes}


@pytest.mark.parametrize("raw", [embedded(), PUBLISHED], ids=["embedded", "published"])
def test_the_flat_fields_are_found_where_vllm_looks(raw: dict[str, Any]) -> None:
    config = VlmConfig(**raw)
    text: Any = config.text_config
    vision: Any = config.vision_config
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "head_dim", "eos_token_id"):
        assert getattr(text, name) == raw[name]
        assert getattr(config.get_text_config(), name) == raw[name]
    rope = raw["rope_parameters"]
    assert text.llama_4_scaling == {
        "original_max_position_embeddings": rope["original_max_position_embeddings"],
        "beta": rope["llama_4_scaling_beta"],
    }
    for name in ("rope_theta", "factor", "mscale", "mscale_all_dim", "beta_fast"):
        assert text.rope_parameters[name] == rope[name]
    assert text.rope_parameters["rope_type"] == "yarn"
    assert text.max_position_embeddings == raw["max_position_embeddings"]
    assert (config.image_token_index, config.tie_word_embeddings) == (19, False)
    assert (text.tie_word_embeddings, vision.hidden_act, vision.model_type) == (
        False, "silu", "pixtral",
    )  # fmt: skip
    for name in ("hidden_size", "patch_size", "image_size", "num_attention_heads"):
        assert getattr(vision, name) == raw["vision_config"][name]
    assert vision.rope_parameters["rope_theta"] == raw["vision_config"]["rope_parameters"][
        "rope_theta"
    ]  # fmt: skip


def test_it_goes_through_its_own_form_and_back() -> None:
    """vLLM sends configs between its processes."""
    config = VlmConfig(**embedded())
    text: Any = config.text_config
    again: Any = TextConfig(**text.to_dict())
    assert again.llama_4_scaling == text.llama_4_scaling
    assert again.rope_parameters == text.rope_parameters
    assert VlmConfig().to_dict()  # as transformers does to find what differs


def test_a_text_only_member() -> None:
    raw = embedded(model_type=TEXT_TYPE, architectures=["NemotronLabsDiffusionModel"])
    config: Any = TextConfig(**raw)
    assert config.llama_4_scaling["original_max_position_embeddings"] == 1024
    assert config.architectures == ["NemotronLabsDiffusionModel"]


def test_the_context_ends_where_vllms_rotary_table_does() -> None:
    rope = {**embedded()["rope_parameters"], "original_max_position_embeddings": 32}
    config: Any = VlmConfig(**embedded(rope_parameters=rope))
    assert config.text_config.max_position_embeddings == 32 * 4


def test_a_config_that_our_loader_refuses_is_refused_in_its_words() -> None:
    with pytest.raises(ValueError, match=r"config\.json lacks head_dim"):
        VlmConfig(**embedded(head_dim=None))
    with pytest.raises(ValueError, match="sliding_window=4; this decoder implements None only"):
        VlmConfig(**embedded(sliding_window=4))


def test_the_stand_in_is_there_only_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = importlib.import_module("vlm_dlm.vllm_plugin.stand_in")
    monkeypatch.setattr(stand_in, "is_torchvision_available", lambda: False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with torchvision_stand_in():
        assert importlib.import_module("torchvision.transforms.v2.functional").__name__
    assert "torchvision" not in sys.modules
    monkeypatch.setattr(stand_in, "is_torchvision_available", lambda: True)
    with torchvision_stand_in():
        assert "torchvision" not in sys.modules
