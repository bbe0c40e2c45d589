"""Expected tensors against published counts; every fault of a checkpoint in one clear error."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlm_dlm.checkpoint.config import TEXT_TYPE, ModelConfig, RopeConfig, VisionConfig
from vlm_dlm.checkpoint.manifest import (
    Shape,
    TensorInfo,
    check_manifest,
    read_manifest,
)
from vlm_dlm.checkpoint.model_types import expected_tensors, read_config
from vlm_dlm.errors import CheckpointError

TEXT_8B = ModelConfig(model_type=TEXT_TYPE, vocab_size=131072, vision=None)
TINY = ModelConfig(
    model_type=TEXT_TYPE,
    vocab_size=8,
    hidden_size=4,
    intermediate_size=6,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=2,
    rope=RopeConfig(),
    vision=None,
)


def write_safetensors(path: Path, tensors: dict[str, Shape], dtype: str = "BF16") -> None:
    """A file of zeros with a correct header."""
    header: dict[str, object] = {}
    offset = 0
    for name, shape in tensors.items():
        size = math.prod(shape) * 2
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(offset))


def write_sharded(folder: Path, tensors: dict[str, Shape]) -> dict[str, str]:
    """Two shards and an index; returns the weight map."""
    names = list(tensors)
    shards = {"a-1.safetensors": names[::2], "a-2.safetensors": names[1::2]}
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    for shard, members in shards.items():
        write_safetensors(folder / shard, {name: tensors[name] for name in members})
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map: dict[str, str]) -> None:
    raw = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(raw)


def load_failure(folder: Path, config: ModelConfig = TINY) -> str:
    with pytest.raises(CheckpointError) as caught:
        check_manifest(config, read_manifest(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_vlm_8b_counts() -> None:
    tensors = expected_tensors(ModelConfig())
    assert len(tensors) == 531
    assert sum(math.prod(shape) for shape in tensors.values()) == 8_918_034_432


def test_vlm_8b_counts_by_group() -> None:
    tensors = expected_tensors(ModelConfig())
    groups = {
        "encoder.vision_tower.": (218, 403_305_472),
        "encoder.multi_modal_projector.": (4, 25_166_848),
        "encoder.layers.33.": (9, 218_112_000),
    }
    for prefix, expected in groups.items():
        shapes = [shape for name, shape in tensors.items() if name.startswith(prefix)]
        assert (len(shapes), sum(map(math.prod, shapes))) == expected


def test_text_8b_counts() -> None:
    tensors = expected_tensors(TEXT_8B)
    assert len(tensors) == 309
    assert sum(math.prod(shape) for shape in tensors.values()) * 2 == 16_979_107_840


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.embed_tokens.weight", (131073, 4096)),
        ("encoder.layers.33.self_attn.q_proj.weight", (4096, 4096)),
        ("encoder.layers.0.self_attn.k_proj.weight", (1024, 4096)),
        ("encoder.layers.0.self_attn.v_proj.weight", (1024, 4096)),
        ("encoder.layers.0.mlp.gate_proj.weight", (14336, 4096)),
        ("encoder.layers.0.mlp.down_proj.weight", (4096, 14336)),
        ("encoder.norm.weight", (4096,)),
        ("diffusion_head.weight", (131073, 4096)),
        ("encoder.vision_tower.patch_conv.weight", (1024, 3, 14, 14)),
        ("encoder.vision_tower.transformer.layers.23.attention.o_proj.weight", (1024, 1024)),
        ("encoder.vision_tower.transformer.layers.0.feed_forward.up_proj.weight", (4096, 1024)),
        ("encoder.multi_modal_projector.patch_merger.merging_layer.weight", (1024, 4096)),
        ("encoder.multi_modal_projector.linear_1.weight", (4096, 1024)),
    ],
)
def test_published_shape(name: str, shape: Shape) -> None:
    assert expected_tensors(ModelConfig())[name] == shape


def test_vision_heads_that_do_not_fill_the_width_are_refused() -> None:
    config = ModelConfig(vision=VisionConfig(head_dim=32))
    with pytest.raises(CheckpointError, match=r"16 heads of 32.*1024"):
        expected_tensors(config)


def test_single_file_and_shards_give_the_same_manifest(tmp_path: Path) -> None:
    tensors = expected_tensors(TINY)
    single, sharded = tmp_path / "single", tmp_path / "sharded"
    single.mkdir()
    sharded.mkdir()
    write_safetensors(single / "model.safetensors", tensors)
    write_sharded(sharded, tensors)
    for folder in (single, sharded):
        manifest = read_manifest(folder)
        assert check_manifest(TINY, manifest) == []
        assert {name: info.shape for name, info in manifest.items()} == tensors
        assert {info.dtype for info in manifest.values()} == {"BF16"}


def test_all_mismatches_are_in_one_error(tmp_path: Path) -> None:
    tensors = expected_tensors(TINY)
    for layer in (0, 1):
        for name in ("q_proj", "v_proj"):
            del tensors[f"encoder.layers.{layer}.self_attn.{name}.weight"]
    tensors["encoder.norm.bias"] = (4,)
    tensors["encoder.norm.weight"] = (5,)
    write_safetensors(tmp_path / "model.safetensors", tensors)
    message = load_failure(tmp_path)
    assert "4 missing (encoder.layers.0.self_attn.q_proj.weight, " in message
    assert "layers.1.self_attn.v_proj" not in message, "only the first few names are listed"
    assert "1 unexpected (encoder.norm.bias)" in message
    assert "1 of the wrong shape (encoder.norm.weight is [5] but should be [4])" in message


def test_known_strays_are_a_warning(tmp_path: Path) -> None:
    strays = {
        "encoder.layers.0.self_attn.rotary_emb.inv_freq": (1,),
        "encoder.layers.0.self_attn.k_scale": (1,),
        "encoder.layers.1.self_attn.v_scale": (1,),
    }
    write_safetensors(tmp_path / "model.safetensors", {**expected_tensors(TINY), **strays})
    (warning,) = check_manifest(TINY, read_manifest(tmp_path))
    assert "3 unused and ignored" in warning
    assert "rotary_emb.inv_freq" in warning


def test_quantised_weights_are_refused() -> None:
    manifest = {
        name: TensorInfo(Path("x"), "F8_E4M3" if "q_proj" in name else "BF16", shape)
        for name, shape in expected_tensors(TINY).items()
    }
    with pytest.raises(CheckpointError, match=r"2 of an unsupported dtype .*F8_E4M3"):
        check_manifest(TINY, manifest)


@pytest.mark.parametrize("missing_bytes", [1, 200])
def test_truncated_file(tmp_path: Path, missing_bytes: int) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, expected_tensors(TINY))
    path.write_bytes(path.read_bytes()[:-missing_bytes])
    message = load_failure(tmp_path)
    assert "truncated" in message
    assert "model.safetensors" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a complete safetensors file"),
        (b"\xff" * 64, "not a complete safetensors file"),
        (struct.pack("<Q", 500) + b"{}", "not a complete safetensors file"),
        (struct.pack("<Q", 4) + b"{no}", "damaged header"),
        (struct.pack("<Q", 2) + b"[]", "damaged header"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "damaged header"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "damaged entry for a"),
    ],
)
def test_damaged_header(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert words in load_failure(tmp_path)


def test_offsets_that_contradict_the_shape(tmp_path: Path) -> None:
    raw = json.dumps({"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 6]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(6))
    assert "wrong data offsets for a" in load_failure(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../b.safetensors", "/tmp/b.safetensors", "x/../../b.safetensors", "C:\\b.safetensors", 7],
)
def test_index_must_stay_inside_the_folder(tmp_path: Path, shard: str) -> None:
    write_index(tmp_path, {"encoder.norm.weight": shard})
    message = load_failure(tmp_path)
    assert "only files inside the folder" in message
    assert "encoder.norm.weight" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not a readable JSON file"), ("[]", "no weight_map"), ('{"weight_map": {}}', "no we")],
)
def test_damaged_index(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    assert words in load_failure(tmp_path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write_sharded(tmp_path, expected_tensors(TINY))
    (tmp_path / "a-2.safetensors").unlink()
    assert "a-2.safetensors" in load_failure(tmp_path)


def test_index_that_names_the_wrong_shard(tmp_path: Path) -> None:
    weight_map = write_sharded(tmp_path, expected_tensors(TINY))
    weight_map["encoder.norm.weight"] = "a-1.safetensors"
    weight_map["encoder.embed_tokens.weight"] = "a-2.safetensors"
    write_index(tmp_path, weight_map)
    assert "does not hold it" in load_failure(tmp_path)


def test_tensor_stored_twice(tmp_path: Path) -> None:
    write_sharded(tmp_path, expected_tensors(TINY))
    write_safetensors(tmp_path / "a-2.safetensors", expected_tensors(TINY))
    assert "stored twice" in load_failure(tmp_path)


def test_folder_without_weights(tmp_path: Path) -> None:
    assert "neither model.safetensors nor" in load_failure(tmp_path)


def test_wrong_model_type(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="'llama'"):
        read_config(tmp_path)


def test_text_checkpoint_against_vlm_config_names_the_vision_tower(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", expected_tensors(TINY))
    vision = VisionConfig(hidden_size=64, num_attention_heads=1, num_hidden_layers=1)
    message = load_failure(tmp_path, replace(TINY, vision=vision))
    assert "15 missing (encoder.vision_tower.patch_conv.weight" in message


def test_checking_a_checkpoint_does_not_import_torch() -> None:
    code = (
        "import sys, vlm_dlm.errors, vlm_dlm.checkpoint.config\n"
        "import vlm_dlm.checkpoint.manifest, vlm_dlm.checkpoint.resolve\n"
        "heavy = {'torch', 'transformers', 'accelerate', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
