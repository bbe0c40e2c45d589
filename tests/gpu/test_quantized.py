"""Quantized weights on a CUDA device: torchao's kernels answer in every mode."""

from __future__ import annotations

import pytest
import torch

from vlm_dlm.model.quantized_linear import KernelLinear
from vlm_dlm.request import SamplingParams
from vlm_dlm.runtime import Runtime

pytest.importorskip("torchao", reason="torchao is not installed (extra quantize)")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_every_mode_answers_with_the_kernels(scheme: str) -> None:
    runtime = Runtime.load(device="cuda", dtype="bfloat16", quantize=scheme)
    layer = runtime.model.decoder.layers[0]
    assert isinstance(layer.get_submodule("mlp.down_proj"), KernelLinear)
    prompt = runtime.prompt("What is in the picture?")
    report = runtime.compare(prompt, sampling=SamplingParams(max_tokens=16), is_warm=False)
    assert all(result.num_tokens for result in report.results)


def test_int8_in_float32_is_near_the_cpu() -> None:
    answers = [
        Runtime.load(device=device, dtype="float32", quantize="int8") for device in ("cpu", "cuda")
    ]
    layers = [runtime.model.decoder.layers[0].get_submodule("mlp.down_proj") for runtime in answers]
    x = torch.randn(3, 704)
    torch.testing.assert_close(layers[1](x.cuda()).cpu(), layers[0](x), rtol=5e-2, atol=5e-2)
