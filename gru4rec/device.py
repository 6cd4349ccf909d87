"""Which device to compute on, and with how many threads.

Apart from the estimators, so that trials and commands need no scikit-learn for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gru4rec.errors import ParameterError

SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def resolve_device(device: str) -> torch.device:
    """Turn 'auto' into a GPU where there is one, else the CPU.

    Raises
    ------
    ParameterError
        When torch knows no such device, or this machine has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ParameterError(
            f"device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got {device!r}"
        ) from None
    try:
        torch.Generator(resolved)
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError):
        raise ParameterError(f"device {device!r} cannot be used on this machine", "use 'auto' or 'cpu'") from None
    return resolved


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads for a while; it takes a thread per core by itself.

    Threads wait for one another at the end of each small product. Where another process has their core, that is most of
    the time: two threads on two busy cores were measured 20 times slower than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Let the calling thread count numbers below 1.2e-38 as 0 for a while.

    Processors take some hundred cycles for one. A softmax of far-apart scores is full of them: a training at too high a
    learning rate was measured six times slower than any other.
    """
    before = bool(torch.full((1,), SMALLEST_NORMAL).div(2) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
