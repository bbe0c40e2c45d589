"""A prompt cut into pieces gives what it gives whole, image features across the cuts included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.integration.engine.harness import (
    IMAGE,
    Answer,
    answer_of,
    ask,
    core_of,
    fresh_model,
    make_core,
    prompt_of,
    run,
    tiny_config,
    twin_answer,
)
from tests.invariants import assert_no_pages_held, assert_one_ending, events_of
from tests.twins.forward import DenseForward
from vlm_dlm.checkpoint.config import VisionConfig
from vlm_dlm.decoding import MODES
from vlm_dlm.errors import PromptError
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput, SamplingParams

VISION = VisionConfig(
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=1,
    num_attention_heads=2,
    head_dim=16,
    image_size=140,
)


@pytest.fixture(scope="module")
def model() -> VlmModel:
    model = fresh_model(5, tiny_config(vision=VISION))
    assert model.vision is not None
    for parameter in model.vision.parameters():
        if parameter.dim() > 1:
            parameter.mul_(5.0)
    return model


def image(seed: int, rows: int, columns: int) -> ImageInput:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(3, 28 * rows, 28 * columns, generator=generator)
    return ImageInput(pixels, f"picture {seed}", rows * columns)


IMAGES = (image(1, 2, 3), image(2, 2, 2), image(1, 2, 3))


def picture_prompt(images: tuple[ImageInput, ...] = IMAGES) -> PromptInput:
    ids: list[int] = [4]
    for number, one in enumerate(images):
        ids += [IMAGE] * one.num_tokens + [6 + number]
    return PromptInput((*ids, 9, 2), images)


def picture_request(name: str, mode: str, prompt: PromptInput | None = None) -> GenerationRequest:
    base = ask(name, mode, (1,))
    sampling = SamplingParams(max_tokens=10)
    return GenerationRequest(name, prompt or picture_prompt(), mode, base.params, sampling)


def features(model: VlmModel, images: tuple[ImageInput, ...] = IMAGES) -> Tensor:
    with torch.inference_mode():
        return torch.cat([model.encode_images(one.pixels[None])[0] for one in images])


@pytest.mark.parametrize("num_rows", [1, 3, 7, 10])
def test_a_prompt_in_pieces_equals_the_whole(num_rows: int) -> None:
    modes = list(MODES)
    batch = [ask(str(i), modes[i % 4], prompt_of(9 + 4 * i, i)) for i in range(6)]
    core = make_core(max_prompt_rows=num_rows)
    assert run(core, *batch) == run(make_core(), *batch)
    assert_no_pages_held(core)


@pytest.mark.parametrize("num_rows", [1, 2, 5, 8, 100])
def test_image_features_cross_the_cuts(model: VlmModel, num_rows: int) -> None:
    core = make_core(model, max_prompt_rows=num_rows)
    batch = [picture_request(mode, mode) for mode in MODES]
    answers = run(core, *batch, ask("text", "ar", prompt_of(5)))
    for request in batch:
        forward = DenseForward(model, features(model), IMAGE)
        assert answers[request.request_id] == twin_answer(forward, request)
    assert_no_pages_held(core)


def test_images_change_the_answer(model: VlmModel) -> None:
    """Content and order both count."""
    swapped = picture_prompt((image(3, 2, 3), *IMAGES[1:]))
    answers = run(
        make_core(model),
        picture_request("own", "ar"),
        picture_request("swapped", "ar", swapped),
        picture_request("turned", "ar", picture_prompt((IMAGES[1], IMAGES[0], IMAGES[0]))),
    )
    assert len({answer.tokens for answer in answers.values()}) == 3


@pytest.mark.parametrize("images", [(), IMAGES[:2]])
def test_placeholders_and_images_must_agree(images: tuple[ImageInput, ...]) -> None:
    prompt = PromptInput(picture_prompt().token_ids, images)
    core = make_core()
    with pytest.raises(PromptError, match="16 image placeholders"):
        core.submit(picture_request("a", "ar", prompt))
    assert_no_pages_held(core)


def test_a_picture_is_encoded_once(model: VlmModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    encode = model.encode_images
    monkeypatch.setattr(model, "encode_images", lambda x: calls.append(1) or encode(x))
    core = make_core(model)
    run(core, picture_request("a", "ar"))
    assert len(calls) == 2, "three images, two different ones"
    run(core, picture_request("b", "diffusion"))
    assert len(calls) == 2


def test_a_wrong_number_of_placeholders_ends_that_request_only(model: VlmModel) -> None:
    wrong = ImageInput(image(4, 2, 2).pixels, "picture 4", 5)
    events = list(
        make_core(model).run(
            [
                picture_request("bad", "ar", picture_prompt((wrong,))),
                picture_request("good", "ar"),
            ]
        )
    )
    assert_one_ending(events)
    assert answer_of(events_of(events, "bad")).ending == "engine_error"
    assert answer_of(events_of(events, "good")) == solo(model)


def solo(model: VlmModel) -> Answer:
    return run(make_core(model), picture_request("good", "ar"))["good"]


def test_images_do_not_run_on_a_model_without_eyes() -> None:
    core = core_of(fresh_model(), IMAGE)
    events = list(core.run([picture_request("a", "ar"), ask("b", "ar", (1, 2))]))
    assert_one_ending(events)
    assert answer_of(events_of(events, "a")).ending == "bad_checkpoint"
    assert answer_of(events_of(events, "b")).ending in ("stop", "length")
    assert_no_pages_held(core)
