"""`gru4rec convert` as a user meets it: a model folder that the other commands use, and one line for each bad input."""

from __future__ import annotations

import io
import json
import os

import pandas as pd
import pytest
import torch

from gru4rec.model_folder import load_model


@pytest.fixture
def desk(tmp_path, monkeypatch, save_recpack_file):
    """A folder to work in, with a model of recpack's and tables of its items."""
    monkeypatch.chdir(tmp_path)
    save_recpack_file(tmp_path / "old.trch", num_items=3, num_layers=2, dropout=0.25)
    (tmp_path / "items.csv").write_text("iid,item_id\n0,a\n2,c\n1,b\n")
    pd.read_csv("items.csv").to_parquet("items.parquet")
    (tmp_path / "short.csv").write_text("iid,item_id\n0,a\n")
    (tmp_path / "log.csv").write_text("SessionId,ItemId,Time\n1,a,1\n1,c,2\n")
    (tmp_path / "there").mkdir()
    torch.save({}, "state.trch")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_a_model_that_the_other_commands_use(invoke, desk):
    done = invoke("convert", "old.trch", "--items", "items.csv", "--out", "new")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        "the file does not say how the model was trained: hyperparameters not named below are defaults",
        "wrote a model of 3 items to new: "
        "num_layers=2, hidden_size=4, embedding=separate, num_components=3, dropout=0.25",
    ]
    threads = torch.get_num_threads()  # the other commands set them for this process
    told = invoke("recommend", "new", "log.csv", "--k", 3)
    evaluated = invoke("evaluate", "new", "log.csv", "--json")
    torch.set_num_threads(threads)
    assert sorted(pd.read_csv(io.StringIO(told.out))["item"]) == ["a", "b", "c"]
    assert json.loads(evaluated.out)["num_targets"] == 1


def test_a_parquet_table_gives_the_same_ids(invoke, desk):
    assert invoke("convert", "old.trch", "--items", "items.parquet", "--out", "new").code == 0
    assert load_model("new").items.ids.tolist() == ["a", "b", "c"]


def test_without_a_table_the_ids_are_recpacks_columns(invoke, desk):
    done = invoke("convert", "old.trch", "--out", "new")
    assert done.err.startswith("item ids are recpack's columns; --items gives the log's own\n")
    assert load_model("new").items.ids.tolist() == [0, 1, 2]


def test_json(invoke, desk):
    assert json.loads(invoke("convert", "old.trch", "--out", "new", "--json").out) == {
        "model": "new",
        "num_items": 3,
        "hyperparameters": {
            "num_layers": 2,
            "hidden_size": 4,
            "embedding": "separate",
            "num_components": 3,
            "dropout": 0.25,
        },
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.trch", "--out", "new"], "none.trch does not exist or is not a file"),
        (["log.csv", "--out", "new"], "log.csv cannot be read as a recpack model: "),
        (["state.trch", "--out", "new"], "state.trch holds dict, expected recpack.algorithms.gru4rec.GRU4RecTorch"),
        (["old.trch", "--out", "there"], "there exists already; hint: choose another folder, nothing there is overwr"),
        (["old.trch", "--out", "new", "--items", "none.csv"], "none.csv does not exist or is not a file"),
        (["old.trch", "--out", "new", "--items", "short.csv"], "short.csv is not a one-to-one mapping of 3 items: 2 a"),
        (["old.trch", "--out", "new", "--items", "log.csv"], "log.csv must have one column 'iid' (found: SessionId, "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_work_that_fails_says_why_in_one_line(invoke, desk, arguments, message):
    before = names(desk)
    done = invoke("convert", *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {message}")
    assert done.err.count("\n") == 1
    assert names(desk) == before


class Attack:
    def __reduce__(self):
        return os.system, ("touch marker",)


def test_a_file_that_would_run_something_is_refused(invoke, desk):
    torch.save(Attack(), "evil.trch")
    done = invoke("convert", "evil.trch", "--out", "new")
    assert done.code == 1
    assert done.err.startswith(
        "error: evil.trch names posix.system, which no recpack model does; nothing of it was run"
    )
    assert not (desk / "marker").exists()


@pytest.mark.parametrize(
    "arguments", [["old.trch"], ["there", "--out", "new"], ["old.trch", "--out", "log.csv"], []], ids=str
)
def test_wrong_usage_is_named(invoke, desk, arguments):
    before = names(desk)
    done = invoke("convert", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: ")
    assert names(desk) == before
