"""Each thing that may be wrong with a model folder whose digests are right is found by its own check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from gru4rec.data.training_log import describe_log
from gru4rec.errors import ModelFolderError
from gru4rec.model import Model
from gru4rec.model_folder import add_files, save_model
from gru4rec.sealed_folder import seal
from gru4rec.verification import K, compare_examples, verify_model


@pytest.fixture(scope="module")
def model(make_model, make_sessions):
    log = make_sessions([[*range(20)], [3, 4], [3]])
    return Model.of_log(make_model(range(20)).network, log)


@pytest.fixture
def folder(model, tmp_path):
    return save_model(model, tmp_path / "model")


def results(folder):
    return {check.name: check.passed for check in verify_model(folder)}


SOUND = {"files": True, "model": True, "weights": True, "support": True, "examples": True, "onnx": None}


def test_a_folder_as_it_was_written_is_sound(folder):
    assert results(folder) == SOUND


def test_without_support_there_is_nothing_to_add_up(model, tmp_path):
    save_model(replace(model, support=None, training_log=None), tmp_path / "model")
    assert results(tmp_path / "model") == SOUND | {"support": None}


def test_a_file_that_nobody_knows_is_found(folder):
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").touch()
    (check,) = verify_model(folder)
    assert check.detail == f"{folder} has onnx/model.onnx, of which SHA256SUMS knows nothing; hint: remove it"


def test_a_config_that_does_not_fit_ends_the_checks(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_items": 21}))
    seal(folder)
    assert results(folder) == {"files": True, "model": False}


def test_support_of_another_log_is_found(model, make_sessions, tmp_path):
    other = replace(model, training_log=describe_log(make_sessions([[1, 2]])))
    assert results(save_model(other, tmp_path / "model")) == SOUND | {"support": False}


def change_expected(folder, change):
    table = pd.read_csv(folder / "examples/expected.csv")
    change(table).to_csv(folder / "examples/expected.csv", index=False)
    seal(folder)


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        (lambda table: table.assign(score=table["score"] * (1 + 1e-6)), True),
        (lambda table: table.assign(score=table["score"] * (1 + 1e-3)), False),
        (lambda table: table[1:], False),
        (lambda table: pd.concat([table, table[:1]]), False),
        (lambda table: table.assign(source="popular"), False),
        (lambda table: table.assign(item=table["item"].where(table.index > 0, 999)), False),
        (lambda table: table.drop(columns="score"), False),
        (lambda table: table.assign(score="x"), False),
    ],
    ids=["rounding", "score", "row missing", "row twice", "source", "unknown item", "column", "no number"],
)
def test_expected_recommendations(folder, change, passed):
    change_expected(folder, change)
    assert results(folder) == SOUND | {"examples": passed}


def test_weights_that_were_exchanged_are_found_by_the_examples(folder, model):
    weights = {name: 1.01 * weight for name, weight in model.network.weights.items()}
    save_file(weights, folder / "weights.safetensors")
    seal(folder)
    assert results(folder) == SOUND | {"examples": False}


def test_weights_that_are_not_finite_are_found(folder):
    weights = load_file(folder / "weights.safetensors")
    weights["item_bias"][3] = torch.nan
    save_file(weights, folder / "weights.safetensors")
    seal(folder)
    assert results(folder) == SOUND | {"weights": False, "examples": False}


def rows(items, scores):
    return pd.DataFrame(
        {"session": "s", "rank": range(1, len(items) + 1), "item": items, "score": scores, "source": "model"}
    )


def test_tied_items_may_change_places():
    here = rows([*"abcd"], [3.0, 2.0, 2.0, 1.0])
    assert compare_examples(here, rows([*"acbd"], [3.0, 2.0, 2.0, 1.0])).startswith("4 recommendations")
    with pytest.raises(ModelFolderError, match="s should have b of score 3 at rank 1, here that item has 2"):
        compare_examples(here, rows([*"bacd"], [3.0, 2.0, 2.0, 1.0]))


def test_an_item_tied_with_the_last_rank_may_take_its_place():
    scores = np.r_[np.arange(K, 0, -1), 1].astype(float)
    here = rows([f"i{place}" for place in range(K + 1)], scores)
    there = here[:K].assign(item=[*here["item"][: K - 1], f"i{K}"])
    assert compare_examples(here, there).startswith(f"{K} recommendations")


def test_onnx_files_without_a_checker_are_skipped(folder, monkeypatch):
    add_files(folder, "onnx", lambda part: (part / "model.onnx").write_bytes(b"x"))

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("gru4rec.verification.importlib.import_module", missing)
    check = verify_model(folder)[-1]
    assert check.passed is None
    assert check.detail == "onnxruntime is not installed: pip install 'gru4rec-tune[onnx]'"


def test_version_1_has_no_examples():
    old = Path(__file__).parents[1] / "golden/model_folder_v1"
    assert results(old) == SOUND | {"support": None, "examples": None}
