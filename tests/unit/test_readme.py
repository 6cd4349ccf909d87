"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tuning.spec import read_spec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = ROOT / "examples/quickstart.py"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_is_the_quickstart():
    assert blocks("python") == [QUICKSTART.read_text(encoding="utf-8")]
    assert len(QUICKSTART.read_text(encoding="utf-8").splitlines()) <= 13


def test_the_quickstart_runs(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, QUICKSTART], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = eval(done.stdout.splitlines()[0])
    assert figures["recall@20"] > 0.5  # a popularity ranking of this log reaches 0.3
    assert "item-" in done.stdout


def test_the_search_specification_is_valid(tmp_path):
    (tmp_path / "search.toml").write_text(blocks("toml")[0])
    spec = read_spec(tmp_path / "search.toml")
    assert spec.data.test == tmp_path / "data/test.parquet"


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if "gru4rec " in line])
def test_the_commands_exist_with_these_options(line):
    from gru4rec.cli.main import cli

    words = line.split("#")[0].split()
    command, context = cli, None
    while hasattr(command, "get_command"):
        words = words[1:]
        command = command.get_command(context, words[0])
        assert command is not None, line
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_demo_s_specification_is_valid():
    assert read_spec(ROOT / "examples/search.toml").trials > 0


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ["tune", "report", "onnx", "cluster", "dev"]),
        ("requirements-compat.lock", ["compat"]),
        ("requirements-tracking.lock", ["tune", "report", "mlflow", "wandb", "tensorboard"]),
    ],
)
def test_locked_versions_are_within_the_declared_bounds(lock, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line for line in (ROOT / lock).read_text().splitlines() if not line.startswith("#")]
    pins = (line.partition(";")[0].strip().split("==") for line in lines)
    locked = {name.lower().replace("_", "-"): version for name, version in pins}
    optional = project["optional-dependencies"]
    for requirement in map(
        Requirement, [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    ):
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(locked[requirement.name.lower()]), requirement
