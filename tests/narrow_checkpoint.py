"""The published VLM at full depth and a fraction of its width: real names, real vocabulary."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from vlm_dlm.checkpoint.config import ModelConfig, VisionConfig
from vlm_dlm.checkpoint.default_template import CHAT_TEMPLATE
from vlm_dlm.checkpoint.manifest import INDEX_FILE, SINGLE_FILE
from vlm_dlm.checkpoint.model_types import expected_tensors, written_config
from vlm_dlm.training.tokenizer import build_tokenizer, training_texts

PUBLISHED = ModelConfig()
NARROW = replace(
    PUBLISHED,
    hidden_size=256,
    intermediate_size=1024,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=64,
    vision=VisionConfig(hidden_size=128, intermediate_size=512, num_attention_heads=4, head_dim=32),
)
MASK_ENTRY = "|<MASK>|"  # the last row of the vocabulary, which decoding does not use


def write_narrow_checkpoint(folder: Path, num_shards: int = 1) -> Path:
    """About 240 MB in bfloat16 with random weights, in one file or in shards with an index."""
    names = list(expected_tensors(NARROW).items())
    numbers = {name: index * num_shards // len(names) for index, (name, _) in enumerate(names)}
    files = {name: _file_name(number, num_shards) for name, number in numbers.items()}
    values = _random_values()
    for file in sorted(set(files.values())):
        tensors = {name: _filled(shape, values) for name, shape in names if files[name] == file}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if num_shards > 1:
        (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "config.json").write_text(json.dumps(written_config(NARROW)))
    (folder / "tokenizer.json").write_text(_full_vocabulary(), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return folder


def _random_values() -> torch.Tensor:
    """As many as repeat out of step with every width; drawing all anew would take a second."""
    generator = torch.Generator().manual_seed(0)
    return torch.empty(1_000_003).normal_(0, 0.05, generator=generator).bfloat16()


def _filled(shape: tuple[int, ...], values: torch.Tensor) -> torch.Tensor:
    """Norms at one, matrices of random values."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    num = math.prod(shape)
    return values.repeat(-(-num // len(values)))[:num].reshape(shape)


def _file_name(index: int, num_shards: int) -> str:
    if num_shards == 1:
        return SINGLE_FILE
    return f"model-{index + 1:05}-of-{num_shards:05}.safetensors"


@cache
def _full_vocabulary() -> str:
    """A small BPE, filled up with entries that no text is encoded to, and the extra mask entry."""
    layout = json.loads(build_tokenizer(training_texts(50), 400).to_str())
    vocab: dict[str, int] = layout["model"]["vocab"]
    last = NARROW.vocab_size - 1
    vocab.update({f"Ġ{token_id:06}": token_id for token_id in range(len(vocab), last)})
    template = next(entry for entry in layout["added_tokens"] if entry["id"] == 100)
    layout["added_tokens"].append({**template, "id": last, "content": MASK_ENTRY})
    return json.dumps(layout)
