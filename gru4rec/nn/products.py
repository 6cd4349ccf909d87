"""The three matrix products of a layer, each by the fastest library that torch has for it.

On CPUs torch multiplies single precision by MKL, which was measured at half the speed of oneDNN on an AMD EPYC, and at
up to 1.6 times its speed on an Intel Xeon: the maker of the processor decides. torch has oneDNN, which makes code for
the processor that it runs on, but reaches it for such products only by the name that its compiler uses: no public one
takes plain tensors. Where that name is missing, torch's own products are taken. oneDNN makes code once for each shape,
so it is given only those that come up again and again.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 16  # what comes up again and again has a multiple of so many rows, but where an epoch's lanes drain
COLUMNS = 32  # few different widths: the code for a product is made once for each


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias, shape (N, M), for x of shape (N, K) and weight of shape (M, K)."""
    if _for_onednn(x):
        return _onednn(x, weight, bias)
    return functional.linear(x, weight, bias)


def tile_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what `linear` does, by oneDNN on any processor: for a thousand rows it is hardly ever the slower one."""
    if _linear_pointwise is not None and _onednn_takes(x):
        return _onednn(x, weight, bias)
    return functional.linear(x, weight, bias)


def input_gradient(d_output: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of x in `linear`, d_output @ weight, shape (N, K)."""
    if _for_onednn(d_output):
        return _onednn(d_output, weight.T, None)
    return d_output @ weight


def weight_gradient(d_output: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the weight in `linear`, d_output.T @ x, shape (M, K)."""
    if _for_onednn(x):
        return _onednn(d_output.T, x.T, None)
    return d_output.T @ x


def padded(x: Tensor) -> Tensor:
    """Return x with rows of zeros below it, so that oneDNN takes it."""
    return functional.pad(x, (0, 0, 0, -len(x) % ROWS))


def gather_columns(table: Tensor, rows: Tensor) -> Tensor:
    """Return rows of a table, to be columns of a product, and zeros up to a multiple of COLUMNS; shape (C, ...)."""
    num_rows = len(rows)
    gathered = table.new_empty(num_rows + -num_rows % COLUMNS, *table.shape[1:])
    torch.index_select(table, 0, rows, out=gathered[:num_rows])
    gathered[num_rows:] = 0.0
    return gathered


def _for_onednn(x: Tensor) -> bool:
    """Whether oneDNN is to be used: it is there and the faster one, and its code for so many rows is worth making."""
    return _use_onednn and _onednn_takes(x)


def _onednn_takes(x: Tensor) -> bool:
    on_cpu = x.dtype == torch.float32 and x.device.type == "cpu"
    return on_cpu and len(x) % ROWS == 0 < len(x)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = _linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _find_linear_pointwise() -> Any:
    """Return torch's oneDNN product if it is there and does what it did when this was written."""
    x, weight, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        found = torch.ops.mkldnn._linear_pointwise
        works = torch.equal(found(x, weight, bias, "none", [], ""), x @ weight.T + bias)
    except (AttributeError, RuntimeError, TypeError):
        return None
    return found if works else None


def _made_by_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "GenuineIntel" in platform.processor()


_linear_pointwise = _find_linear_pointwise()
_use_onednn = _linear_pointwise is not None and not _made_by_intel()
