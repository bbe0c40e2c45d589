"""Products with quantized matrices, filled row by row while a checkpoint loads.

torchao chooses scales and codes. On a GPU its tensors and kernels run the product too. On a CPU
they do not: there its int8 product turns the whole matrix into floats first, and the int4 kernel of
torch takes time in proportion to the rows, which are 32 in most forwards of this engine. So the
matrix is turned into floats piece by piece, each small enough to stay in the processor's cache.
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm_dlm.errors import BadInputError
from vlm_dlm.model.quantization import GROUP_SIZES, SCHEMES, Scheme
from vlm_dlm.model.quiet import quiet_imports

PIECE = 1 << 22  # weights turned into floats at a time: 16 MB of float32
FILL_PIECE = 1 << 19  # weights quantized at a time, of which torchao makes several float copies


class QuantizedLinear(nn.Module):
    """x [..., in] -> [..., out] with codes int8 [out, in], or two of int4 per byte [out, in / 2].

    int8: weight = code * scale, float32 scale [out]. int4: weight = code * scale + shift, both
    [out, groups, 1]; the low halves of the bytes of a row are its first in / 2 inputs.
    """

    codes: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(
        self, shape: tuple[int, int], scheme: Scheme, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        num_out, num_in = shape
        self.scheme, self.num_in = scheme, num_in
        if scheme.is_grouped:
            groups = scheme.num_groups(num_in)
            codes = torch.empty(num_out, num_in // 2, dtype=torch.uint8, device=device)
            scale = torch.empty(num_out, groups, 1, dtype=dtype, device=device)
            self.register_buffer("shift", torch.empty_like(scale))
        else:
            codes = torch.empty(num_out, num_in, dtype=torch.int8, device=device)
            scale = torch.empty(num_out, dtype=torch.float32, device=device)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.rows_per_piece = max(1, PIECE // num_in)

    def finish(self) -> None:
        """Called once, after the last row."""

    @torch.no_grad()
    def fill(self, start: int, weight: Tensor) -> None:
        """Quantize stored rows [n, in], of any dtype, into the rows from `start` on."""
        step = max(1, FILL_PIECE // self.num_in)
        for first in range(0, weight.shape[0], step):
            rows = weight[first : first + step].to(self.codes.device).float()
            place = slice(start + first, start + first + rows.shape[0])
            if self.scheme.is_grouped:
                self._fill_int4(place, rows)
            else:
                self._fill_int8(place, rows)

    def _fill_int8(self, place: slice, rows: Tensor) -> None:
        ao, block = torchao(), (1, self.num_in)
        scale, zero = ao.choose_qparams_affine(
            rows, ao.MappingType.SYMMETRIC, block, torch.int8, eps=torch.finfo(torch.float32).eps
        )
        self.codes[place] = ao.quantize_affine(rows, block, scale, zero, torch.int8)
        self.scale[place] = scale.view(-1)

    def _fill_int4(self, place: slice, rows: Tensor) -> None:
        ao, block = torchao(), (1, self.num_in // self.scale.shape[1])
        scale, zero = ao.choose_qparams_affine(
            rows, ao.MappingType.ASYMMETRIC, block, torch.uint8, 0, 15, eps=1e-6
        )
        scale = scale.to(self.scale.dtype).float()  # codes are chosen for the scale that is kept
        codes = ao.quantize_affine(rows, block, scale, zero, torch.uint8, 0, 15)  # [n, in]
        low, high = codes.chunk(2, dim=1)
        self.codes[place] = low | (high << 4)
        self.scale[place] = scale.view(rows.shape[0], -1, 1)
        self.shift[place] = (-scale * zero).view(rows.shape[0], -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        step, num_out = self.rows_per_piece, self.codes.shape[0]
        pieces = [self._product(x, slice(i, i + step)) for i in range(0, num_out, step)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

    def _product(self, x: Tensor, rows: slice) -> Tensor:
        """With some rows of the matrix."""
        if not self.scheme.is_grouped:
            product = F.linear(x, self.codes[rows].to(x.dtype))
            return (product * self.scale[rows]).to(x.dtype)
        codes = self.codes[rows]
        weight = x.new_empty(codes.shape[0], 2, codes.shape[1])
        weight[:, 0], weight[:, 1] = codes & 15, codes >> 4
        grouped = weight.view(codes.shape[0], self.scale.shape[1], -1)  # [rows, groups, size]
        grouped.mul_(self.scale[rows]).add_(self.shift[rows])
        return F.linear(x, grouped.view(-1, self.num_in))


class KernelLinear(nn.Linear):
    """A matrix for torchao's own kernels on a GPU: whole until `finish`, then quantized at once."""

    def __init__(
        self, shape: tuple[int, int], scheme: Scheme, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(shape[1], shape[0], bias=False, device=device, dtype=dtype)
        self.scheme = scheme
        self.requires_grad_(False)

    @torch.no_grad()
    def fill(self, start: int, weight: Tensor) -> None:
        """Copy stored rows [n, in] to the rows from `start` on."""
        self.weight[start : start + weight.shape[0]].copy_(weight)

    def finish(self) -> None:
        """Quantize; the matrix of floats goes."""
        ao = torchao()
        if not self.scheme.is_grouped:
            config = ao.Int8WeightOnlyConfig(set_inductor_config=False)
        else:
            size = next(size for size in GROUP_SIZES if self.in_features % size == 0)
            packing = "tile_packed_to_4d"
            # The setter would change the precision of all float32 products.
            config = ao.Int4WeightOnlyConfig(size, False, int4_packing_format=packing)
        ao.quantize_(self, config, filter_fn=lambda module, name: module is self)


def quantized_linear(
    shape: tuple[int, ...], quantize: str, dtype: torch.dtype, device: torch.device
) -> QuantizedLinear | KernelLinear:
    """An unfilled matrix [out, in] for `fill` and `finish`. dtype: of the activations."""
    num_out, num_in = shape
    scheme = SCHEMES[quantize]
    kind = KernelLinear if has_kernel(scheme, dtype, device) else QuantizedLinear
    return kind((num_out, num_in), scheme, dtype, device)


def has_kernel(scheme: Scheme, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether torchao's own product is used. Its int4 kernel takes bfloat16 alone."""
    return device.type == "cuda" and (dtype == torch.bfloat16 or not scheme.is_grouped)


def torchao() -> ModuleType:
    """`torchao.quantization`. Raises BadInputError where it cannot be imported."""
    try:
        with quiet_imports():
            import torchao.quantization

        return torchao.quantization
    except Exception as error:  # built for another torch, say
        raise BadInputError(f"torchao cannot be imported ({error}); reinstall it") from None
