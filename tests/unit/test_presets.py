"""The published settings, against the authors' own documents."""

from __future__ import annotations

import dataclasses

import pytest

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import HyperParameters
from gru4rec.presets import PRESETS, find_preset, preset

# The table "best hyperparameters" of the README of the authors' GRU4Rec for PyTorch, of what it agrees on with their
# parameter files: loss, elu_param, layers, batch_size, dropout_p_embed, dropout_p_hidden, learning_rate, momentum,
# sample_alpha, bpreg, logq.
README = """
yoochoose    cross-entropy 0   480 48  0    0.2  0.07  0    0.2 0    1
rees46       cross-entropy 0   512 240 0.45 0    0.065 0    0.5 0    1
coveo        bpr-max       1   512 144 0.35 0    0.05  0.4  0.2 1.85 0
retailrocket bpr-max       0.5 224 80  0.5  0.05 0.05  0.4  0.4 1.95 0
diginetica   bpr-max       1   512 128 0.5  0.3  0.05  0.15 0.3 0.9  0
"""
# From the parameter file of RSC15, whose row of that table is different.
RSC15 = "rsc15        cross-entropy 0   100 32  0    0.4  0.2   0.2  0.5 0    1"
NAMES = [
    "elu_param", "hidden_size", "batch_size", "dropout_embedding", "dropout_hidden", "learning_rate", "momentum",
    "sample_alpha", "bpreg", "logq",
]  # fmt: skip
ROWS = {row[0]: row[1:] for row in map(str.split, [*README.strip().splitlines(), RSC15])}
CONSTANTS = {
    "num_layers": 1, "embedding": "tied", "num_negatives": 2048, "clipnorm": None, "epsilon": 1e-6,
    "mask_targets": False, "negatives": "shared", "optimization_algorithm": "adagrad", "dropout": 0.0, "bptt": 1,
}  # fmt: skip


def test_there_is_one_for_each_data_set():
    assert set(PRESETS) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_figures_are_the_published_ones(name):
    values = preset(name).to_dict()
    loss, *figures = ROWS[name]
    assert {key: values[key] for key in NAMES} == dict(zip(NAMES, map(float, figures), strict=True))
    assert values["loss_fn"] == loss
    assert values.items() >= CONSTANTS.items()


def test_a_preset_is_the_authors_parameter_string():
    """The string is the example for run.py in their README."""
    string = (
        "layers=224,batch_size=80,dropout_p_embed=0.5,dropout_p_hidden=0.05,learning_rate=0.05,momentum=0.4,"
        "n_sample=2048,sample_alpha=0.4,bpreg=1.95,logq=0.0,loss=bpr-max,constrained_embedding=True,elu_param=0.5,"
        "n_epochs=10"
    )
    assert preset("retailrocket") == HyperParameters.from_official(string)


@pytest.mark.parametrize("name", ROWS)
def test_all_were_trained_for_ten_epochs(name):
    assert find_preset(name).settings.epochs == 10


@pytest.mark.parametrize("name", ROWS)
def test_the_source_is_a_parameter_file_of_that_data_set(name):
    loss = {"cross-entropy": "xe", "bpr-max": "bprmax"}[preset(name).loss_fn]
    assert PRESETS[name].source.startswith(f"paramfiles/{name}_{loss}_shared_")


def test_presets_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["coveo"].source = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("find", [preset, find_preset])
def test_an_unknown_preset(find):
    with pytest.raises(ParameterError, match=r"^unknown preset 'retail_rocket'; did you mean 'retailrocket'\?$"):
        find("retail_rocket")
