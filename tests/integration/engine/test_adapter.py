"""The draft adapter changes which drafts are made, and nothing that is written."""

from __future__ import annotations

import pytest
import torch

from tests.integration.engine.harness import (
    ask,
    fresh_model,
    make_core,
    prompt_of,
    run,
    run_alone,
    tiny_model,
    twin_answer,
)
from tests.twins.forward import DenseForward
from vlm_dlm.decoding import MODES
from vlm_dlm.model.lora import RowLora
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.request import GenerationRequest

LINEAR = {"block_length": 6}


@pytest.fixture(scope="module")
def adapted() -> VlmModel:
    """The weights of `tiny_model(3)` and a large random adapter."""
    model = fresh_model(3)
    generator = torch.Generator().manual_seed(0)
    for layer in model.decoder.layers:
        lora = RowLora(64, 32, 4, 4.0).requires_grad_(False)
        for matrix in (lora.lora_A, lora.lora_B):
            matrix.normal_(0.0, 0.2, generator=generator)
        setattr(layer.self_attn, "draft_lora", lora)  # noqa: B010
    return model


def batch(mode: str = "linear_spec") -> list[GenerationRequest]:
    options = {} if mode == "ar" else LINEAR
    return [ask(str(i), mode, prompt_of(3 + i, i), options, max_tokens=20) for i in range(10)]


def test_text_equals_ar_while_drafts_differ(adapted: VlmModel) -> None:
    plain = run(make_core(tiny_model(3)), *batch())
    with_adapter = run(make_core(adapted), *batch())
    ar = run(make_core(adapted), *batch("ar"))
    for name, answer in ar.items():
        assert with_adapter[name].tokens == plain[name].tokens == answer.tokens
    assert any(with_adapter[name].acceptance != plain[name].acceptance for name in ar)


def test_answers_equal_the_twin_with_an_adapter(adapted: VlmModel) -> None:
    answers = run(make_core(adapted), *batch())
    for request in batch():
        assert answers[request.request_id] == twin_answer(DenseForward(adapted), request)


def test_drafting_without_it_is_a_choice(adapted: VlmModel) -> None:
    request = ask("a", "linear_spec", prompt_of(5), {**LINEAR, "use_adapter": False})
    assert run_alone(request, adapted) == run_alone(request, tiny_model(3))


def test_rows_of_other_requests_never_get_it(adapted: VlmModel) -> None:
    """Drafts, verifies, plain steps and prompts share every forward of this batch."""
    requests = batch() + [
        ask(f"{mode} {i}", mode, prompt_of(4 + 3 * i, i), max_tokens=10 + i)
        for mode in MODES
        for i in range(3)
    ]
    answers = run(make_core(adapted, max_prompt_rows=5), *requests)
    for request in requests:
        model = adapted if request.mode == "linear_spec" else tiny_model(3)
        assert answers[request.request_id] == run_alone(request, model)
