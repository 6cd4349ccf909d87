"""`gru4rec export` as a user meets it, and its files where neither this project nor PyTorch is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from gru4rec.data.synthetic import generate_log
from gru4rec.estimator import GRU4RecNegSampling
from gru4rec.model_folder import save_model

ROOT = Path(__file__).parents[2]
NEEDED = ("numpy", "onnxruntime", "pandas")


def fit(frame, path):
    estimator = GRU4RecNegSampling(hidden_size=16, embedding="tied", batch_size=64, max_epochs=2, seed=1)
    return save_model(estimator.fit(frame).model_, path)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder to work in: models whose ids are text and integers, and logs with items that they do not know."""
    desk = tmp_path_factory.mktemp("desk")
    log = generate_log(num_sessions=600, num_items=100)
    numbered = log.assign(ItemId=log["ItemId"].str.removeprefix("item-").astype(int))
    for name, frame in {"text": log, "integer": numbered}.items():
        known = frame.groupby("ItemId").ngroup() > 5
        fit(frame[known], desk / name)
        frame.tail(500).sample(frac=1, random_state=0).to_csv(desk / f"{name}.csv", index=False)
        frame[~known].head(20).to_csv(desk / f"{name}-unknown.csv", index=False)
    return desk


@pytest.fixture(scope="module")
def other_python(tmp_path_factory):
    """An interpreter of an environment with what the example needs, in the versions of requirements.lock."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    done = subprocess.run(
        [*pip, "--constraint", ROOT / "requirements.lock", *NEEDED], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(NEEDED)}: {done.stderr.strip()[-200:]}")
    return python


@pytest.mark.parametrize("ids", ["text", "integer"])
def test_the_example_recommends_without_this_project(call, desk, other_python, ids):
    alone = [other_python, "-I", "-W", "error"]
    found = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'gru4rec') if u.find_spec(n)])"
    assert subprocess.run([*alone, "-c", found], capture_output=True, text=True, check=True).stdout == "[]\n"
    call("export", desk / ids)
    call("recommend", desk / ids, desk / f"{ids}.csv", "--k", 7, "--fallback", "none", "--out", desk / "ours.csv")
    example = [*alone, ROOT / "examples/recommend_onnx.py", desk / ids]
    for log, out in {f"{ids}.csv": "theirs.csv", f"{ids}-unknown.csv": "nothing.csv"}.items():
        done = subprocess.run([*example, desk / log, desk / out, "7"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    ours, theirs = pd.read_csv(desk / "ours.csv"), pd.read_csv(desk / "theirs.csv")
    assert len(theirs) > 500
    columns = ["session", "rank", "item"]
    pd.testing.assert_frame_equal(theirs[columns], ours[columns])
    np.testing.assert_allclose(theirs["score"], ours["score"], rtol=1e-4, atol=1e-4)
    assert (desk / "nothing.csv").read_text() == "session,rank,item,score\n"


def test_the_folder_gets_its_graphs_and_says_how_near_they_are(invoke, desk):
    done = invoke("export", desk / "integer", "--int8", desk / "integer.csv")
    assert (done.code, done.out) == (0, "")
    lines = done.err.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == [
        f"wrote {desk}/integer/onnx/{name}" for name in ("model.onnx", "step.onnx", "model.int8.onnx")
    ]
    assert lines[3].startswith("  9") or lines[3].startswith("  100.0%")
    assert " of its first 20 items are the model's, recall@20 0." in lines[3]


@pytest.mark.parametrize(
    ("option", "inputs"), [([], ["items", "lengths", "k"]), (["--stateful"], ["items", "hidden", "k"])], ids=str
)
def test_a_file_of_ones_own(call, desk, tmp_path, option, inputs):
    report = json.loads(call("export", desk / "text", tmp_path / "shop.onnx", *option, "--json").out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.items.csv", "shop.onnx", "shop.parity.json"]
    assert json.loads((tmp_path / "shop.parity.json").read_text()) == report
    assert [given.name for given in onnx.load(tmp_path / "shop.onnx").graph.input] == inputs


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none", "a.onnx"], 1, "error: none is not a model folder"),
        (["text", "a.pt"], 2, "error: an ONNX file must be called NAME.onnx, got a.pt"),
        (["text", "--stateful"], 2, "Usage: "),
        (["text", "a.onnx", "--stateful", "--int8", "text.csv"], 2, "Usage: "),
        (["text", "a.onnx", "--int8", "text-unknown.csv"], 1, "error: no session has two known events or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_fails_says_why_and_writes_nothing(invoke, desk, monkeypatch, arguments, code, message):
    monkeypatch.chdir(desk)
    before = sorted(path.name for path in desk.iterdir())
    done = invoke("export", *arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(message)
    assert sorted(path.name for path in desk.iterdir()) == before
