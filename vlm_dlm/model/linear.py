"""Products with frozen weights in the layout and with the kernel that suit a CPU in float32.

Measured there (docs/performance.md): streaming the weights is what a product of few rows costs.
oneDNN over weights whose outputs for one input lie side by side streams them 2.5 times as fast as
`nn.functional.linear` over rows, except in the smallest products. Everywhere else this is
`nn.functional.linear`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def empty_weight(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, is_product: bool
) -> Tensor:
    """Memory for a parameter of `shape`. Matrices of products, [out, in], get the CPU's layout."""
    if is_product and len(shape) == 2 and device.type == "cpu" and dtype == torch.float32:
        return torch.empty(shape[::-1], dtype=dtype, device=device).t()
    return torch.empty(shape, dtype=dtype, device=device)


def _onednn_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [T, in], frozen weight [out, in] -> [T, out]."""
    is_tiny = x.shape[0] == 1 and weight.numel() <= 1 << 17  # oneDNN's own overhead shows there
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and not is_tiny:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


def _plain_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [T, in], frozen weight [out, in] -> [T, out]."""
    return F.linear(x, weight)


# Builds of torch without oneDNN lack the operator.
_has_onednn = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
product = _onednn_product if _has_onednn else _plain_product
