"""vLLM with our plugin writes what our own mode `ar` writes, token for token, in float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tests.vllm.both import Answered, Question, ours, vllms
from vlm_dlm.checkpoint.config import TEXT_TYPE
from vlm_dlm.scenes.samples import make_sample

EMBEDDED = Path(__file__).parents[2] / "assets" / "embedded"
NUM_SCENES = 50
# Of `rope_parameters`; queries are scaled from here on. The embedded model's own is 1024.
LOWERED = 32


def test_fifty_prompts_with_images_and_past_the_trained_length(
    vllm_python: str, tmp_path: Path
) -> None:
    """Among them images over the cap, images of odd sizes, two images in a prompt, and prompts that
    go on past the 1024 tokens of the embedded model's `original_max_position_embeddings`."""
    questions = [*_scenes(NUM_SCENES), *_long()]
    expected = ours(EMBEDDED, questions, 4096)
    found = vllms(vllm_python, EMBEDDED, questions, 4096, tmp_path)
    assert sum(bool(one.pixels) for one in expected) >= NUM_SCENES
    assert sum(len(one.prompt_ids) > 1024 for one in expected) >= 2
    assert sum(len(set(one.token_ids)) > 5 for one in expected) >= NUM_SCENES // 2
    _check(found, expected)


def test_lowered_length(vllm_python: str, tmp_path: Path) -> None:
    """Every prompt is far past where queries begin to be scaled; without the scale, which vLLM does
    not read from the published config, the answers differ."""
    model = _lowered(EMBEDDED, tmp_path / "lowered")
    questions = _scenes(8)
    expected = ours(model, questions, 1024)
    _check(vllms(vllm_python, model, questions, 1024, tmp_path), expected)
    unscaled = {"text_config": {"llama_4_scaling": None}}
    found = vllms(vllm_python, model, questions, 1024, tmp_path, unscaled)
    assert [one.prompt_ids for one in found] == [one.prompt_ids for one in expected]
    assert [one.token_ids for one in found] != [one.token_ids for one in expected]


def test_text_only_member(vllm_python: str, tmp_path: Path) -> None:
    model = _text_only(_lowered(EMBEDDED, tmp_path / "lowered"), tmp_path / "text")
    texts = ("What is in the picture?", "How many red circles are there?", "Describe the chart.")
    questions = [Question(text, max_tokens=48) for text in texts]
    _check(vllms(vllm_python, model, questions, 1024, tmp_path), ours(model, questions, 1024))


def _check(found: Sequence[Answered], expected: Sequence[Answered]) -> None:
    assert len(found) == len(expected)
    wrong = [k for k, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]]
    assert not wrong, [(k, found[k].token_ids, expected[k].token_ids) for k in wrong[:3]]


def _scenes(number: int) -> list[Question]:
    """Held-out scenes at sizes of their own, three in four asked for their captions, the rest one
    of their questions."""
    questions: list[Question] = []
    for index in range(number):
        sample = make_sample(index, "heldout")
        scale = (1.0, 0.7, 1.3, 3.0)[index % 4]
        size = tuple(max(30, round(side * scale) + index % 3) for side in sample.image.size)
        image = sample.image.resize((size[0], size[1]))
        asked = sample.questions[index % len(sample.questions)].question
        questions.append(Question(asked if index % 4 == 3 else "Describe the image.", (image,)))
    return questions


def _long() -> list[Question]:
    scenes = [make_sample(index, "heldout").image for index in range(100, 106)]
    words = "Describe the image. What is in the picture? How many objects are there? " * 60
    return [
        Question(words, max_tokens=64),
        Question(words, (scenes[0],), max_tokens=64),
        Question("Describe the image.", tuple(scenes[:2]), max_tokens=64),
        Question("Describe the image.", tuple(image.resize((440, 440)) for image in scenes)),
    ]


def _lowered(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    config = _config(folder)
    rope = config["rope_parameters"]
    # the rotary table of vLLM has as many entries as the product of the two
    rope |= {"original_max_position_embeddings": LOWERED, "factor": 4096 / LOWERED}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _text_only(model: Path, folder: Path) -> Path:
    """The same decoder as a text-only member of the family."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    image_parts = ("encoder.vision_tower.", "encoder.multi_modal_projector.")
    kept = {name: tensors[name] for name in tensors if not name.startswith(image_parts)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config = _config(folder)
    for name in ("vision_config", "vision_feature_layer", "multimodal_projector_bias"):
        del config[name]
    config |= {"architectures": ["NemotronLabsDiffusionModel"], "model_type": TEXT_TYPE}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())
