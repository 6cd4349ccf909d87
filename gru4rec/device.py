"""Which device to compute on. Apart from the estimators, so that trials and commands need no scikit-learn for it."""

from __future__ import annotations

import torch

from gru4rec.errors import ParameterError


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
