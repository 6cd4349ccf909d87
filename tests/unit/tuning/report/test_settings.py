"""Settings to copy make what the trial was."""

from __future__ import annotations

import gru4rec
from gru4rec.hyperparameters import NAMES
from tuning.progress import TrialRecord
from tuning.report.settings import render_fixed, render_python
from tuning.spec import read_spec

GIVEN = {"loss_fn": "bpr-max", "embedding": "tied", "hidden_size": 96, "clipnorm": None, "learning_rate": 0.07}


def made_by(text):
    """Return the estimator that the text makes."""
    names: dict[str, object] = {}
    exec(text, names)
    return names["model"]


def test_fixed_is_read_back(tmp_path):
    (tmp_path / "search.toml").write_text(render_fixed(TrialRecord(0, 1, GIVEN)))
    fixed = read_spec(tmp_path / "search.toml").space.fixed
    assert {name: fixed[name] for name in GIVEN} == GIVEN


def test_python_makes_the_estimator():
    model = made_by(render_python(TrialRecord(0, 11, GIVEN, best_epoch=4)))
    assert isinstance(model, gru4rec.GRU4RecNegSampling)
    assert {name: model.get_params()[name] for name in GIVEN} == GIVEN
    assert (model.max_epochs, model.seed) == (4, 11)


def test_the_full_softmax_has_an_estimator_of_its_own():
    given = {"loss_fn": "cross-entropy", "num_negatives": "all", "logq": 1.0, "batch_size": 64}
    model = made_by(render_python(TrialRecord(0, 11, given, best_epoch=4)))
    assert isinstance(model, gru4rec.GRU4RecCrossEntropy)
    assert model.batch_size == 64
    assert not {"logq", "num_negatives"} & model.get_params().keys()
    assert set(given) <= set(NAMES)
