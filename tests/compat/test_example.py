"""examples/recpack_example.py runs as a user runs it, and differs from a recpack script by one import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples/recpack_example.py"


def test_it_runs_and_learns(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = {name: float(value) for name, value in re.findall(r"^(\w+): ([\d.]+)$", done.stdout, re.MULTILINE)}
    assert set(figures) == {"RecallK_20", "NDCGK_20"}
    assert figures["RecallK_20"] > 0.45  # recpack's Popularity reaches 0.426 on this split


def test_our_classes_are_its_only_imports_from_here():
    imports = re.findall(r"^from (gru4rec\S*) import (.+?)(?:  #.*)?$", EXAMPLE.read_text(), re.MULTILINE)
    assert imports == [("gru4rec", "GRU4RecNegSampling"), ("gru4rec.data.synthetic", "generate_log")]
