"""Codes are the nearest ones, products are those of the decoded matrix, in pieces or at once."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from vlm_dlm.errors import BadInputError
from vlm_dlm.model.quantization import SCHEMES
from vlm_dlm.model.quantized_linear import (
    KernelLinear,
    QuantizedLinear,
    has_kernel,
    quantized_linear,
)

pytest.importorskip("torchao", reason="torchao is not installed (extra quantize)")
CPU = torch.device("cpu")


def matrix(num_out: int, num_in: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(num_out, num_in, generator=generator) * 0.02
    weight[0] = 0.0  # a row without a scale
    weight[1, :32] += 0.5  # a group that is all on one side of zero
    return weight


def filled(
    name: str, weight: Tensor, dtype: torch.dtype = torch.float32, rows_per_piece: int = 10**6
) -> QuantizedLinear:
    module = QuantizedLinear((weight.shape[0], weight.shape[1]), SCHEMES[name], dtype, CPU)
    module.rows_per_piece = rows_per_piece
    module.fill(0, weight)
    module.finish()
    return module


def decoded(module: QuantizedLinear) -> Tensor:
    """The matrix as the products see it: what they make of unit vectors."""
    return module(torch.eye(module.num_in)).T


@pytest.mark.parametrize("name", SCHEMES)
def test_no_weight_is_off_by_more_than_half_a_step(name: str) -> None:
    weight = matrix(24, 192)
    module = filled(name, weight)
    if name == "int8":
        step = (weight.abs().amax(1, keepdim=True) / 127).expand_as(weight)
        slack = 1.01
    else:  # the range holds zero, so that zero has a code
        groups = weight.view(24, 3, 64)
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        step = ((high - low) / 15).repeat_interleave(64, 1)
        slack = 2.01  # the code of zero is rounded as well
    assert ((decoded(module) - weight).abs() <= slack * step / 2 + 1e-6).all()
    assert (decoded(module)[0] == 0).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_products_are_those_of_the_decoded_matrix(name: str) -> None:
    module = filled(name, matrix(24, 192))
    x = torch.randn(2, 5, 192)
    torch.testing.assert_close(module(x), x @ decoded(module).T)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pieces_change_nothing(name: str, dtype: torch.dtype) -> None:
    weight, x = matrix(24, 192).to(dtype), torch.randn(3, 192).to(dtype)
    whole, pieces = filled(name, weight, dtype), filled(name, weight, dtype, rows_per_piece=7)
    for key, buffer in whole.state_dict().items():
        assert torch.equal(buffer, pieces.state_dict()[key])
    torch.testing.assert_close(pieces(x), whole(x))
    assert pieces(x).dtype == dtype


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_what_the_arithmetic_says(name: str, dtype: torch.dtype) -> None:
    module = filled(name, matrix(24, 192), dtype)
    held = sum(buffer.nbytes for buffer in module.buffers())
    assert held == SCHEMES[name].matrix_bytes((24, 192), dtype.itemsize)


def test_parts_of_a_fused_matrix_may_come_one_by_one() -> None:
    weight = matrix(24, 64)
    module = QuantizedLinear((24, 64), SCHEMES["int4"], torch.float32, CPU)
    for start, stop in ((0, 9), (9, 24)):
        module.fill(start, weight[start:stop])
    assert torch.equal(decoded(module), decoded(filled("int4", weight)))


def test_int8_equals_the_tensor_of_torchao() -> None:
    """The module for GPUs runs wherever torchao's tensor does."""
    weight, x = matrix(24, 192), torch.randn(4, 192)
    kernel = KernelLinear((24, 192), SCHEMES["int8"], torch.float32, CPU)
    kernel.fill(0, weight)
    kernel.finish()
    assert type(kernel.weight.data).__name__ == "Int8Tensor"
    own = filled("int8", weight)
    with torch.inference_mode():  # as in the engine
        assert kernel(x).shape == (4, 24)
    torch.testing.assert_close(kernel(x), own(x), rtol=2e-2, atol=1e-3)
    assert (kernel.weight.qdata - own.codes).abs().max() <= 1  # pyright: ignore


def test_kernels_are_for_gpus_and_the_int4_one_for_bfloat16() -> None:
    wide, narrow, gpu = torch.float32, torch.bfloat16, torch.device("cuda")
    int8, int4 = SCHEMES["int8"], SCHEMES["int4"]
    assert has_kernel(int8, wide, gpu)
    assert has_kernel(int8, narrow, gpu)
    assert has_kernel(int4, narrow, gpu)
    assert not has_kernel(int4, wide, gpu)
    assert not any(has_kernel(s, d, CPU) for s in (int8, int4) for d in (wide, narrow))
    assert isinstance(quantized_linear((64, 64), "int4", narrow, CPU), QuantizedLinear)


def test_a_broken_torchao_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(BadInputError, match=r"torchao cannot be imported .*; reinstall it"):
        filled("int8", matrix(24, 64))
