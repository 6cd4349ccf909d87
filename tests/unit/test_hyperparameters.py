"""Defaults, ranges and conflicts of the hyperparameters."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import NAMES, Flag, HyperParameters, domain_of

# From the documentation of recpack.algorithms.GRU4RecNegSampling (recpack 0.3).
RECPACK_DEFAULTS = {
    "num_layers": 1,
    "hidden_size": 100,
    "num_components": 250,
    "dropout": 0.0,
    "loss_fn": "bpr",
    "optimization_algorithm": "adagrad",
    "momentum": 0.0,
    "clipnorm": 1.0,
    "bptt": 1,
    "num_negatives": 50,
    "batch_size": 512,
    "learning_rate": 0.03,
}

COUNT = "a whole number >= 1"
SHARE = "in [0, 1)"
LOSSES = "one of cross-entropy, top1, top1-max, bpr, bpr-max"
EXPECTED = {
    "num_layers": (COUNT, [0, -1, 1.0, True, "2", None, math.nan]),
    "hidden_size": (COUNT, [0, 0.5, None]),
    "embedding": ("one of separate, tied, none", ["constrained", None, True, 1]),
    "num_components": (COUNT, [0, None]),
    "dropout": (SHARE, [1, 1.2, -0.1, math.nan, None, "0.5", False]),
    "dropout_embedding": (f"{SHARE} or None", [1.0, -0.1, "x"]),
    "dropout_hidden": (f"{SHARE} or None", [1.0, -0.1, "x"]),
    "loss_fn": (LOSSES, ["bpr_max", "xe", None, 3]),
    "bpreg": ("in [0, inf)", [-1, math.inf, None]),
    "elu_param": ("in [0, inf)", [-0.5, math.nan, True]),
    "logq": ("in [0, 1]", [-0.1, 1.1, None]),
    "logq_correction": ("one of published, refined", ["Refined", None, True, 1.0]),
    "num_negatives": ("a whole number >= 0 or 'all'", [-1, 0.5, "every", None, True]),
    "negatives": ("one of shared, per_target", ["each", None]),
    "mask_targets": ("True or False", [0, 1, 1.0, "True", None, math.nan]),
    "sample_alpha": ("in [0, inf)", [-0.1, math.inf]),
    "optimization_algorithm": ("one of adagrad, sgd", ["adam", None]),
    "learning_rate": ("in (0, inf)", [0, -0.1, math.inf, math.nan, "0.1"]),
    "momentum": (SHARE, [1, -0.1]),
    "epsilon": ("in (0, inf)", [0, -1e-9, None]),
    "clipnorm": ("in (0, inf) or None", [0, -1, "none"]),
    "batch_size": (COUNT, [0, 32.0]),
    "bptt": (COUNT, [0, None]),
}


def test_defaults_are_those_of_recpack():
    assert HyperParameters().to_dict().items() >= RECPACK_DEFAULTS.items()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, expected) for name, (expected, values) in EXPECTED.items() for value in values],
)
def test_bad_value_is_named_with_its_range(name, value, expected):
    with pytest.raises(ParameterError) as caught:
        HyperParameters(**{name: value})
    assert str(caught.value) == f"{name} must be {expected}, got {value!r}"


def test_every_hyperparameter_has_a_range_above():
    assert set(EXPECTED) == set(NAMES)


@pytest.mark.parametrize(
    "values",
    [
        {"dropout": 0},
        {"dropout": 0.999},
        {"bpreg": 0},
        {"elu_param": 0},
        {"logq": 0},
        {"logq": 1},
        {"num_negatives": 0},
        {"num_negatives": "all", "loss_fn": "cross-entropy"},
        {"sample_alpha": 0},
        {"learning_rate": 1e-9},
        {"momentum": 0.999},
        {"clipnorm": None},
        {"clipnorm": 1e-9},
        {"batch_size": 1},
        {"hidden_size": 1},
        {"embedding": "none"},
        {"logq_correction": "refined"},
        {"mask_targets": False},
    ],
    ids=str,
)
def test_ends_of_the_ranges_are_allowed(values):
    assert HyperParameters(**values).to_dict().items() >= values.items()


def test_all_bad_values_are_reported_together():
    with pytest.raises(ParameterError) as caught:
        HyperParameters(dropout=1.2, bptt=0)
    assert str(caught.value) == "dropout must be in [0, 1), got 1.2; bptt must be a whole number >= 1, got 0"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"num_negatives": "all", "loss_fn": "bpr"},
            "num_negatives='all' needs loss_fn='cross-entropy', got 'bpr'",
        ),
        (
            {"num_negatives": 0, "negatives": "per_target"},
            "num_negatives=0 leaves no negative unless negatives='shared' and batch_size >= 2",
        ),
        (
            {"num_negatives": 0, "batch_size": 1},
            "num_negatives=0 leaves no negative unless negatives='shared' and batch_size >= 2",
        ),
    ],
)
def test_conflicts_are_refused(values, text):
    with pytest.raises(ParameterError) as caught:
        HyperParameters(**values)
    assert str(caught.value) == text


def test_from_dict_undoes_to_dict():
    given = HyperParameters(
        num_layers=2, loss_fn="cross-entropy", num_negatives="all", clipnorm=None, dropout_hidden=0.1
    )
    assert HyperParameters.from_dict(json.loads(json.dumps(given.to_dict()))) == given
    given = HyperParameters(embedding="none", logq_correction="refined", mask_targets=False)
    assert HyperParameters.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_from_dict_fills_in_defaults():
    assert HyperParameters.from_dict({"bptt": 3}) == HyperParameters(bptt=3)


@pytest.mark.parametrize(
    ("values", "source", "text"),
    [
        ({"learning_rat": 1}, None, "unknown hyperparameter 'learning_rat'; did you mean 'learning_rate'?"),
        ({"droput": 0}, "search.toml", "search.toml: unknown hyperparameter 'droput'; did you mean 'dropout'?"),
        ({"bptt": 0}, "search.toml", "search.toml: bptt must be a whole number >= 1, got 0"),
        ({"bptt": 0}, None, "bptt must be a whole number >= 1, got 0"),
    ],
)
def test_from_dict_says_what_is_wrong_and_where(values, source, text):
    with pytest.raises(ParameterError) as caught:
        HyperParameters.from_dict(values, source)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("values", "embedding", "hidden"),
    [
        ({"dropout": 0.2}, 0.2, 0.2),
        ({"dropout": 0.2, "dropout_embedding": 0.0}, 0.0, 0.2),
        ({"dropout": 0.2, "dropout_hidden": 0.5}, 0.2, 0.5),
    ],
)
def test_dropouts_override_the_common_one(values, embedding, hidden):
    hyperparameters = HyperParameters(**values)
    assert (hyperparameters.embedding_dropout, hyperparameters.hidden_dropout) == (embedding, hidden)


@pytest.mark.parametrize(("embedding", "size"), [("separate", 7), ("tied", 5), ("none", 15)])
def test_only_a_separate_embedding_has_a_width_of_its_own(embedding, size):
    assert HyperParameters(embedding=embedding, num_components=7, hidden_size=5).embedding_size == size


def test_a_flag_of_numpy_is_a_flag():
    """A grid made with numpy has numpy's booleans; what is stored is fit for JSON."""
    hyperparameters = HyperParameters(mask_targets=np.bool_(False))
    assert hyperparameters.mask_targets is False
    assert json.loads(json.dumps(hyperparameters.to_dict()))["mask_targets"] is False


def test_flag_takes_nothing_but_booleans():
    assert [Flag().problem(value) for value in (True, False)] == [None, None]
    assert {Flag().problem(value) for value in (0, 1, "false", None)} == {"True or False"}


def test_new_settings_are_off_by_default():
    """Without them the model is the one that recpack's names describe."""
    hyperparameters = HyperParameters()
    assert hyperparameters.embedding == "separate"
    assert hyperparameters.logq_correction == "published"
    assert hyperparameters.mask_targets is True


def test_domain_of_a_name_is_the_one_that_is_checked():
    assert domain_of("dropout").problem(1.0) == "in [0, 1)"
    assert domain_of("dropout").problem(0.5) is None
