"""What counts as a number in files that people write."""

from __future__ import annotations

import math
from typing import TypeGuard

LARGEST_INTEGER = 2**63 - 1


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether the value is a finite number, and not true or false.

    >>> is_number(0.5), is_number(True), is_number(float("nan")), is_number(10**400)
    (True, False, False, False)
    """
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
