"""What `import gru4rec` offers, and how little it loads."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import gru4rec

# The public names, from the README and the scope of the project.
PUBLIC = {
    "EarlyStopping",
    "EarlyStoppingException",
    "GRU4RecCrossEntropy",
    "GRU4RecError",
    "GRU4RecNegSampling",
    "HyperParameters",
    "ItemVocabulary",
    "LogFormat",
    "Model",
    "Sessions",
    "StoppingCriterion",
    "StoppingRule",
    "Trainer",
    "filter_support",
    "load_model",
    "read_log",
    "save_model",
    "split_last_days",
    "split_last_item",
    "split_time_share",
}
HEAVY = {"numpy", "optuna", "pandas", "pyarrow", "ray", "scipy", "sklearn", "torch"}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_all_is_what_is_public():
    assert set(gru4rec.__all__) == PUBLIC
    assert gru4rec.__all__ == sorted(gru4rec.__all__) == dir(gru4rec)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_name_is_the_object_of_its_module(name):
    found = getattr(gru4rec, name)
    assert found.__name__ == name
    assert getattr(importlib.import_module(found.__module__), name) is found


def test_star_import_gives_just_these_names():
    names = run("before = set(globals()); from gru4rec import *; print(*set(globals()) - before - {'before'})")
    assert set(names.split()) == PUBLIC


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'gru4rec' has no attribute 'GRU5Rec'$"):
        gru4rec.GRU5Rec  # noqa: B018


@pytest.mark.parametrize(
    "code",
    ["import gru4rec", "from gru4rec.cli.main import main; main(['--help'])"],
    ids=["import", "help"],
)
def test_nothing_heavy_is_loaded(code):
    loaded = run(f"{code}\nimport sys\nprint('loaded:', *sys.modules)").split("loaded:")[1].split()
    assert "gru4rec" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_help_lists_all_commands():
    output = run("from gru4rec.cli.main import main; main(['--help'])")
    listed = [line.split()[0] for line in output.split("Commands:\n")[1].splitlines()]
    built_in = ["data", "fit", "evaluate", "recommend", "inspect", "verify", "convert", "export"]
    assert listed == [*built_in, "cluster", "serve", "tune"]
