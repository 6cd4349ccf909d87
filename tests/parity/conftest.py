"""Hands `reference.py` to the tests: under pytest's importlib mode test files cannot import one another."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

NAME = "gru4rec_reference"


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The slow GRU4Rec that ours is compared with."""
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("reference.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module  # dataclasses look up the module of their class
    spec.loader.exec_module(module)
    return module
