"""Settings and parameter spaces of the authors' GRU4Rec, as a user of the commands gives them."""

from __future__ import annotations

import json
import os

import pytest

from gru4rec.cli.main import main
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log
from gru4rec.model_folder import load_model
from gru4rec.presets import preset

SMALL = ["--set", "hidden_size=16", "--set", "num_negatives=16", "--set", "batch_size=8"]
CHANGED = {"hidden_size": 16, "num_negatives": 16, "batch_size": 8}
PARAMETERS = """from collections import OrderedDict
gru4rec_params = OrderedDict([
('loss', 'bpr-max'),
('layers', [12]),
('batch_size', 8),
('n_sample', 16),
('constrained_embedding', False),
('n_epochs', 2),
])
"""
SPACE = """{"name":"layers", "dtype":"int", "values":[8,16], "step":8}
{"name":"bpreg", "dtype":"float", "values":[0.0, 2.0], "step":0.5}
{"name":"n_sample", "dtype":"categorical", "values":[16]}
{"name":"batch_size", "dtype":"categorical", "values":[8]}
"""
SPEC = """
[data]
train = "data/train.parquet"
validation = "data/validation.parquet"
[search]
trials = 1
max_epochs = 1
[space]
preset = "full"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("official")
    write_log(generate_log(150, 100, seed=2), path / "log.csv")
    main(["data", "split", str(path / "log.csv"), "--out", str(path / "data"), "--share", "0.2"])
    (path / "params.py").write_text(PARAMETERS)
    (path / "space.json").write_text(SPACE)
    (path / "search.toml").write_text(SPEC)
    return path


@pytest.fixture
def fit(folder, tmp_path, capsys):
    """A function: options -> the output and the hyperparameters of `gru4rec fit`."""

    def fitted(*options):
        main([*map(str, ["fit", folder / "data/train.parquet", "--out", tmp_path / "model", *options]), "--json"])
        return json.loads(capsys.readouterr().out), load_model(tmp_path / "model").hyperparameters.to_dict()

    return fitted


# --- fit -------------------------------------------------------------------------------------------------------------


def test_a_preset_is_what_set_changes(fit):
    result, found = fit("--preset", "retailrocket", *SMALL)
    assert found == preset("retailrocket").to_dict() | CHANGED
    assert found["bpreg"] == 1.95
    assert len(result["epochs"]) == 10


def test_max_epochs_goes_before_those_of_the_settings(fit):
    result, _ = fit("--preset", "rsc15", "--max-epochs", 1, *SMALL)
    assert len(result["epochs"]) == 1


def test_a_parameter_file_sets_the_epochs_too(fit, folder):
    result, found = fit("--official-params", folder / "params.py")
    assert len(result["epochs"]) == 2
    expected = {
        "loss_fn": "bpr-max", "hidden_size": 12, "batch_size": 8, "num_negatives": 16, "embedding": "none",
        "learning_rate": 0.05, "mask_targets": False, "clipnorm": None,
    }  # fmt: skip
    assert found.items() >= expected.items()


def test_params_go_before_a_parameter_file_and_set_before_both(fit, folder, tmp_path):
    (tmp_path / "params.toml").write_text("hidden_size = 6\nbatch_size = 4\n")
    options = ["--official-params", folder / "params.py", "--params", tmp_path / "params.toml", "--max-epochs", 1]
    _, found = fit(*options, "--set", "hidden_size=7")
    assert (found["hidden_size"], found["batch_size"], found["num_negatives"]) == (7, 4, 16)


@pytest.mark.parametrize(("text", "embedding"), [("none", "none"), ("'none'", "none"), ("tied", "tied")])
def test_none_is_a_word_for_the_embedding(fit, text, embedding):
    _, found = fit("--max-epochs", 1, *SMALL, "--set", f"embedding={text}", "--set", "clipnorm=none")
    assert (found["embedding"], found["clipnorm"]) == (embedding, None)


def test_a_parameter_file_with_code_is_refused_and_not_executed(folder, failure, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(os, "system", called.append)
    (tmp_path / "bad.py").write_text(PARAMETERS.replace("[12]", "__import__('os').system('touch executed')"))
    code, error = failure(
        "fit", folder / "data/train.parquet", "--out", tmp_path / "model", "--official-params", tmp_path / "bad.py"
    )
    assert code == 2
    assert error.startswith("error: bad.py: line 4: \"('layers', __import__('os').system('touch executed')),\" is not")
    assert error.count("\n") == 1
    assert called == []
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "coveo", "--official-params", "params.py"], "--preset and --official-params exclude each other"),
        (["--preset", "cove"], "error: unknown preset 'cove'; did you mean 'coveo'?"),
        (["--official-params", "none.py"], "error: none.py cannot be read: "),
        (["--preset", "coveo", "--set", "dropout=2"], "error: --preset coveo and --set: dropout must be in [0, 1)"),
    ],
)  # fmt: skip
def test_bad_options_of_fit(folder, failure, tmp_path, options, message):
    code, error = failure("fit", folder / "data/train.parquet", "--out", tmp_path / "model", *options)
    assert code == 2
    assert message in error
    assert not (tmp_path / "model").exists()


# --- tune ------------------------------------------------------------------------------------------------------------


def test_check_shows_the_authors_space(folder, capsys):
    main(["tune", "check", str(folder / "search.toml"), "--official-space", str(folder / "space.json"), "--json"])
    resolved = json.loads(capsys.readouterr().out)
    assert resolved["space"] == {
        "hidden_size": {"type": "int", "low": 8, "high": 16, "step": 8},
        "bpreg": {"type": "float", "low": 0.0, "high": 2.0, "step": 0.5, "when": {"loss_fn": ["bpr-max"]}},
    }
    expected = {"loss_fn": "bpr-max", "num_negatives": 16, "embedding": "tied", "mask_targets": False}
    assert resolved["fixed"].items() >= expected.items()
    assert resolved["search"]["trials"] == 1


def test_a_search_in_the_authors_space(folder, ray_local, capsys, tmp_path):
    space, run = tmp_path / "space.json", tmp_path / "run"
    space.write_text(SPACE)
    main(["tune", "run", str(folder / "search.toml"), "--official-space", str(space), "--out", str(run)])
    space.unlink()
    capsys.readouterr()
    main(["tune", "results", str(run), "--json"])
    (trial,) = json.loads(capsys.readouterr().out)["trials"]
    assert trial["hidden_size"] in {8, 16}
    assert trial["bpreg"] in {0.0, 0.5, 1.0, 1.5, 2.0}
    main(["tune", "export", str(run), "--out", str(tmp_path / "model")])
    found = load_model(tmp_path / "model").hyperparameters.to_dict()
    assert (found["hidden_size"], found["bpreg"]) == (trial["hidden_size"], trial["bpreg"])
    assert (found["loss_fn"], found["mask_targets"], found["epsilon"]) == ("bpr-max", False, 1e-6)


def test_a_bad_space(folder, failure, tmp_path):
    (tmp_path / "space.json").write_text(SPACE.replace("layers", "layer"))
    options = ["--official-space", tmp_path / "space.json", "--out", tmp_path / "run"]
    code, error = failure("tune", "run", folder / "search.toml", *options)
    assert code == 2
    assert error.startswith(
        "error: search.toml: space.official: space.json: line 1: unknown parameter of a space 'layer'"
    )
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
