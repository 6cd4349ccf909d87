"""The authors' parameters, as hyperparameters of this project."""

from __future__ import annotations

import os

import pytest

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import HyperParameters
from gru4rec.official import read_official

# From the signature of the authors' GRU4Rec for PyTorch, and from what their code has no parameter for.
DEFAULTS = {
    "loss_fn": "cross-entropy",
    "num_layers": 1,
    "hidden_size": 100,
    "batch_size": 64,
    "dropout_embedding": 0.0,
    "dropout_hidden": 0.0,
    "learning_rate": 0.05,
    "momentum": 0.0,
    "sample_alpha": 0.5,
    "num_negatives": 2048,
    "embedding": "tied",
    "bpreg": 1.0,
    "elu_param": 0.5,
    "logq": 0.0,
    "clipnorm": None,
    "epsilon": 1e-6,
    "optimization_algorithm": "adagrad",
    "negatives": "shared",
    "mask_targets": False,
    "logq_correction": "published",
    "bptt": 1,
    "dropout": 0.0,
}
EVERY_NAME = {
    "loss": "bpr-max", "layers": [96, 96], "batch_size": 48, "dropout_p_embed": 0.1, "dropout_p_hidden": 0.2,
    "learning_rate": 0.07, "momentum": 0.3, "sample_alpha": 0.4, "n_sample": 512, "embedding": 0,
    "constrained_embedding": False, "n_epochs": 7, "bpreg": 1.85, "elu_param": 1, "logq": 0.5,
}  # fmt: skip
TRANSLATED = DEFAULTS | {
    "loss_fn": "bpr-max", "num_layers": 2, "hidden_size": 96, "batch_size": 48, "dropout_embedding": 0.1,
    "dropout_hidden": 0.2, "learning_rate": 0.07, "momentum": 0.3, "sample_alpha": 0.4, "num_negatives": 512,
    "embedding": "none", "bpreg": 1.85, "elu_param": 1.0, "logq": 0.5,
}  # fmt: skip
FILE = """# best of 200
from collections import OrderedDict
gru4rec_params = OrderedDict([
('loss', 'bpr-max'),
('layers', [512]),
('n_epochs', 4)
])
"""


@pytest.fixture
def write(tmp_path):
    def written(text, name="params.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


def problems_of(source):
    with pytest.raises(ParameterError) as caught:
        read_official(source)
    return str(caught.value)


# --- meaning ---------------------------------------------------------------------------------------------------------


def test_what_is_absent_has_the_authors_defaults():
    settings = read_official({})
    assert settings.values == DEFAULTS
    assert settings.epochs == 10


def test_every_name_is_translated():
    settings = read_official(EVERY_NAME)
    assert settings.values == TRANSLATED
    assert settings.epochs == 7


def test_the_values_are_hyperparameters():
    assert HyperParameters.from_official(EVERY_NAME).to_dict().items() >= TRANSLATED.items()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"constrained_embedding": True, "embedding": 32}, ("tied", None)),
        ({"constrained_embedding": False}, ("none", None)),
        ({"constrained_embedding": False, "embedding": 32}, ("separate", 32)),
        ({"constrained_embedding": False, "embedding": "layersize", "layers": [48]}, ("separate", 48)),
        ({"constrained_embedding": "0", "embedding": "32"}, ("separate", 32)),
        ({"constrained_embedding": "1"}, ("tied", None)),
    ],
)
def test_both_embedding_parameters_give_one(given, expected):
    values = read_official(given).values
    assert (values["embedding"], values.get("num_components")) == expected


@pytest.mark.parametrize("loss", ["cross-entropy", "bpr-max", "top1", "top1-max", "bpr"])
def test_losses_keep_their_names(loss):
    assert read_official({"loss": loss}).values["loss_fn"] == loss


def test_theano_s_logit_loss_is_cross_entropy():
    values = read_official({"loss": "xe_logit", "final_act": "softmax_logit"}).values
    assert (values["loss_fn"], values["elu_param"]) == ("cross-entropy", 0.5)


@pytest.mark.parametrize(("activation", "elu_param"), [("linear", 0.0), ("elu-1", 1.0), ("elu-0.25", 0.25)])
def test_theano_s_final_activation_is_the_elu_parameter(activation, elu_param):
    assert read_official({"loss": "bpr-max", "final_act": activation}).values["elu_param"] == elu_param


def test_theano_s_other_names_change_nothing_at_the_values_that_hold_here():
    theano = {
        "final_act": "softmax", "hidden_act": "tanh", "adapt": "adagrad", "adapt_params": [], "decay": 0, "lmbd": 0.0,
        "smoothing": "0", "sigma": 0, "grad_cap": 0, "init_as_normal": "False", "train_random_order": False,
        "time_sort": True,
    }  # fmt: skip
    assert read_official(theano).values == DEFAULTS


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"loss": "ce"}, "loss must be one of cross-entropy, bpr-max, top1, top1-max, bpr, xe_logit, got 'ce'"),
        ({"loss": ["bpr"]}, "loss must be one of"),
        ({"layer": [9]}, "unknown parameter of the authors' GRU4Rec 'layer'; did you mean 'layers'?"),
        ({"layers": [100, 200]}, "layers must all have the same size, got [100, 200]; for example [100, 100]"),
        ({"layers": []}, "layers must be whole numbers >= 1 such as [100] or 100/100, got []"),
        ({"layers": "100/"}, "layers must be whole numbers >= 1 such as [100] or 100/100, got '100/'"),
        ({"batch_size": 32.5}, "batch_size must be a whole number, got 32.5"),
        ({"batch_size": True}, "batch_size must be a whole number, got True"),
        ({"momentum": None}, "momentum must be a number, got None"),
        ({"momentum": 10**400}, "momentum must be a number, got 1000"),
        ({"constrained_embedding": "yes"}, "constrained_embedding must be True or False, got 'yes'"),
        ({"embedding": -1}, "embedding must be a whole number >= 0 or 'layersize', got -1"),
        ({"n_epochs": 0}, "n_epochs must be a whole number >= 1, got 0"),
        ({"hidden_act": "relu"}, "hidden_act must be 'tanh', the only one there is here, got 'relu'; leave it out"),
        ({"adapt": "adam"}, "adapt must be 'adagrad', the only one there is here, got 'adam'"),
        ({"adapt_params": [0.9]}, "adapt_params must be empty, got [0.9]"),
        ({"lmbd": 0.01}, "lmbd must be 0.0, the only one there is here, got 0.01; leave it out, and set dropout"),
        ({"smoothing": "0.1"}, "smoothing must be 0.0"),
        ({"sigma": 0.1}, "sigma must be 0.0"),
        ({"grad_cap": 5}, "grad_cap must be 0.0, the only one there is here, got 5; leave it out, and set clipnorm"),
        ({"init_as_normal": True}, "init_as_normal must be False"),
        ({"train_random_order": 1}, "train_random_order must be False"),
        ({"time_sort": False}, "time_sort must be True"),
        ({"final_act": "linear"}, "final_act of cross-entropy must be softmax or softmax_logit, got 'linear'"),
        ({"loss": "top1", "final_act": "tanh"}, "final_act of top1 must be linear, got 'tanh'"),
        ({"loss": "bpr-max", "final_act": "relu"}, "final_act of bpr-max must be linear or elu-X such as elu-0.5"),
        ({"loss": "bpr-max", "final_act": "elu-x"}, "final_act of bpr-max must be linear or elu-X such as elu-0.5"),
        ({"loss": "bpr-max", "final_act": "0.5"}, "final_act of bpr-max must be linear or elu-X such as elu-0.5"),
        (
            {"loss": "bpr-max", "final_act": "elu-1", "elu_param": 0.5},
            "final_act=elu-1 and elu_param=0.5 exclude each other",
        ),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(given, problem):
    assert problems_of(given).startswith(problem)


def test_all_problems_are_reported_together():
    assert problems_of({"los": "bpr", "layers": [1, 2], "lmbd": 1, "n_sample": "many"}).count("; ") >= 3
    text = problems_of({"los": "bpr", "layers": [1, 2], "lmbd": 1, "n_sample": "many"})
    assert all(name in text for name in ("'los'", "layers must", "lmbd must", "n_sample must"))


# --- strings ---------------------------------------------------------------------------------------------------------


def test_a_parameter_string_is_read_as_the_mapping():
    text = ",".join(f"{name}={value}" for name, value in EVERY_NAME.items()).replace("[96, 96]", "96/96")
    assert read_official(text) == read_official(EVERY_NAME)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("none.py", "parameter string 'none.py': 'none.py' must be name=value, as in loss=bpr-max; hint: a "),
        ("loss=bpr,", "parameter string 'loss=bpr,': '' must be name=value"),
        ("=3", "parameter string '=3': '=3' must be name=value"),
        ("", "parameter string '': '' must be name=value"),
        ("loss=bpr,loss=top1", "loss is given twice"),
        ("a" * 5000, "parameter string 'aaaa"),
    ],
)
def test_bad_strings(text, problem):
    assert problems_of(text).startswith(problem)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_parameter_file_is_read(write):
    path = write(FILE)
    expected = {"loss_fn": "bpr-max", "hidden_size": 512}
    for source in (path, str(path)):
        settings = read_official(source)
        assert settings.values == DEFAULTS | expected
        assert settings.epochs == 4


def test_a_dict_is_read_as_well(write):
    path = write("gru4rec_params = {'loss': 'bpr-max', 'layers': [512], 'n_epochs': 4}\n")
    assert read_official(path) == read_official(write(FILE, "other.py"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import os\n" + FILE, "params.py: line 1: 'import os' is not allowed"),
        ("#\r#\r\nimport os\n", "params.py: line 3: 'import os' is not allowed"),
        (FILE + "import sys\n", "params.py: line 8: 'import sys' is not allowed"),
        (FILE + "gru4rec_params['x'] = 3\n", "params.py: line 8: \"gru4rec_params['x'] = 3\" is not allowed"),
        (FILE + FILE, "params.py: line 10: 'gru4rec_params = OrderedDict([' is not allowed"),
        (FILE.replace("[512]", "[512] * 1"), "params.py: line 5: \"('layers', [512] * 1),\" is not allowed"),
        (FILE.replace("('layers', [512])", "3"), "params.py: line 5: '3,' is not allowed"),
        (FILE.replace("OrderedDict([", "sorted(["), "params.py: line 3: 'gru4rec_params = sorted([' is not allowed"),
        ("params = {'loss': 'bpr'}", "params.py: line 1: \"params = {'loss': 'bpr'}\" is not allowed"),
        ("gru4rec_params = {**other}", "params.py: line 1: 'gru4rec_params = {**other}' is not allowed"),
        ("gru4rec_params = dict(loss='bpr')", "params.py: line 1: \"gru4rec_params = dict("),
        ("gru4rec_params = {'loss': 'bpr', 'loss': 'top1'}", "params.py: loss is given twice"),
        ("gru4rec_params = {'los': 'bpr'}", "params.py: unknown parameter of the authors' GRU4Rec 'los'"),
        ("\n\ngru4rec_params = {", "params.py: line 3: '{' was never closed; expected gru4rec_params = "),
        ("gru4rec_params = {'layers': " + "-" * 20_000 + "1}", "params.py cannot be read: "),
        ("", "params.py cannot be read: it has no gru4rec_params; expected gru4rec_params = "),
    ],
)  # fmt: skip
def test_anything_else_in_a_file_is_refused(write, text, problem):
    assert problems_of(write(text)).startswith(problem)


def test_code_is_not_executed(write, monkeypatch):
    called = []
    monkeypatch.setattr(os, "system", called.append)
    text = problems_of(write("gru4rec_params = {\n'loss': __import__('os').system('touch executed')}\n"))
    assert text.startswith("params.py: line 2: \"'loss': __import__('os').system('touch executed')}\" is not allowed")
    assert called == []


def test_files_that_cannot_be_read(tmp_path):
    assert problems_of(tmp_path / "none.py").startswith(f"{tmp_path / 'none.py'} cannot be read: ")
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    assert problems_of(tmp_path / "bytes.py").startswith(f"{tmp_path / 'bytes.py'} cannot be read: ")
