"""The front door: side files of a checkpoint folder, prepared prompts, and a torch-free import."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.errors import CheckpointError, PromptError
from vlm_dlm.processor.processor import Processor
from vlm_dlm.processor.prompt import ImagePart, Message, TextPart


def test_a_prepared_prompt_has_one_pad_per_feature(processor: Processor) -> None:
    images = [Image.new("RGB", (100, 30), "red"), Image.new("RGB", (28, 28), "blue")]
    message = Message("user", (ImagePart(0), ImagePart(1), TextPart("Compare.")))
    prepared = processor.prepare([message], images)
    pixels = processor.pixels(prepared)
    assert [tuple(pixel.shape) for pixel in pixels] == [(3, 56, 112), (3, 28, 28)]
    features = sum(pixel.shape[1] * pixel.shape[2] // 28**2 for pixel in pixels)
    assert prepared.token_ids.count(19) == features == sum(g.num_pads for g in prepared.grids)
    assert len(set(prepared.image_hashes)) == 2
    text = processor.detokenizer().push(prepared.token_ids)
    assert text == "system\n\nuser\nCompare.\nassistant\n"


def test_the_smaller_limit_counts(processor: Processor) -> None:
    with pytest.raises(PromptError, match="maximum context length is 8 tokens"):
        processor.prepare([Message.of("user", "hello")], max_positions=8)
    with pytest.raises(PromptError, match="maximum context length is 4096 tokens"):
        processor.prepare([Message.of("user", "!-" * 5000)], max_positions=10**6)


def test_a_text_model_refuses_images(folder: Path, config: ModelConfig) -> None:
    processor = Processor.from_folder(folder, replace(config, vision=None))
    assert processor.prepare([Message.of("user", "hi")]).images == ()
    with pytest.raises(PromptError, match="text only"):
        processor.prepare([Message("user", (ImagePart(0),))], [Image.new("RGB", (9, 9))])


def test_the_template_file_wins_over_the_settings_file(
    folder: Path, config: ModelConfig, tmp_path: Path
) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)

    def shown() -> str:
        prompt = Processor.from_folder(tmp_path, config).prepare([Message.of("user", "x")])
        return Processor.from_folder(tmp_path, config).tokenizer.decode(prompt.token_ids, False)

    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"bos_token": {"content": "</s>"}}))
    assert shown().startswith("<|im_start|>system")
    settings.write_text(json.dumps({"chat_template": "A{{ messages[0].content }}"}))
    assert shown() == "Ax"
    named = [{"name": "default", "template": "B{{ messages[0].content }}"}]
    settings.write_text(json.dumps({"chat_template": named, "bos_token": {"content": "</s>"}}))
    assert shown() == "Bx"
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}C{{ messages[0].content }}")
    assert shown() == "</s>Cx"
    settings.write_text("[]")
    with pytest.raises(CheckpointError, match="tokenizer_config"):
        shown()
    (tmp_path / "chat_template.jinja").unlink()
    for odd in (["x"], [None], [{"name": "default", "template": 5}], 7, {"default": "x"}):
        settings.write_text(json.dumps({"chat_template": odd}))
        with pytest.raises(CheckpointError, match="tokenizer_config"):
            shown()
    settings.write_text(json.dumps({"chat_template": [{"name": ["a"]}, {}]}))
    assert shown().startswith("<|im_start|>system")


def test_importing_and_preparing_needs_no_torch(folder: Path) -> None:
    code = """
import sys, pathlib
import vlm_dlm.processor.processor as p, vlm_dlm.processor.image_input
from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.processor.prompt import ImagePart, Message
from PIL import Image
assert "jinja2" not in sys.modules
processor = p.Processor.from_folder(pathlib.Path(sys.argv[1]), ModelConfig())
processor.prepare([Message("user", (ImagePart(0),))], [Image.new("RGB", (50, 50))])
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=60)
