"""What goes wrong in recpack 0.3.6 on today's torch and scikit-learn, and what happens in ours instead."""

from __future__ import annotations

from pickle import UnpicklingError

import numpy as np
import pytest
from recpack.algorithms import loss_functions
from sklearn.base import clone

from gru4rec.errors import ParameterError


@pytest.fixture
def matrix(random_matrix):
    return random_matrix()


def test_fit_with_the_defaults(ours, theirs, matrix):
    with pytest.raises(UnpicklingError):
        theirs().fit(matrix, (matrix, matrix))
    model = ours().fit(matrix, (matrix, matrix))
    assert len(model.history_) == 2
    assert model.predict(matrix).shape == matrix.shape


def test_load(ours, theirs, matrix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted = theirs(keep_last=True).fit(matrix, (matrix, matrix))
    fitted.save()
    with pytest.raises(UnpicklingError):
        theirs().load(fitted.filename)
    model = ours().fit(matrix)
    model.save()
    loaded = ours(hidden_size=4)
    loaded.load(model.filename)  # recpack's returns nothing, ours itself
    assert (loaded.predict(matrix) != model.predict(matrix)).nnz == 0
    assert loaded.hidden_size == 8


def test_clone(ours, theirs):
    with pytest.raises(ValueError, match="not supported"):
        clone(theirs())
    original = ours(stopping_criterion="ndcg", learning_rate=0.1)
    assert clone(original).get_params() == original.get_params()


def test_set_params_changes_the_loss(ours, theirs, matrix):
    stale = theirs()
    stale.set_params(loss_fn="top1")
    assert stale._criterion is loss_functions.bpr_loss
    changed = ours().set_params(loss_fn="top1").fit(matrix)
    expected, other = ours(loss_fn="top1").fit(matrix), ours().fit(matrix)
    assert (changed.predict(matrix) != expected.predict(matrix)).nnz == 0
    assert (changed.predict(matrix) != other.predict(matrix)).nnz > 0


def test_an_unknown_optimizer_is_refused_by_name(ours, theirs, matrix):
    with pytest.raises(AttributeError, match="optimizer"):
        theirs(optimization_algorithm="adam", keep_last=True).fit(matrix, (matrix, matrix))
    with pytest.raises(ParameterError, match="optimization_algorithm must be one of adagrad, sgd, got 'adam'"):
        # In fit, as scikit-learn has it, but before it looks at the data.
        ours(optimization_algorithm="adam").fit(None)


def test_an_item_beyond_the_training_matrix(ours, theirs, matrix, make_matrix):
    larger = make_matrix([[1, 2, 31]], shape=(40, 32))
    with pytest.raises(IndexError):
        theirs(keep_last=True).fit(matrix, (matrix, matrix)).predict(larger)
    with pytest.raises(ValueError, match=r"shape \(40, 32\).* 30 items"):
        ours().fit(matrix).predict(larger)


def test_an_item_without_training_events_is_left_out(ours, make_matrix):
    train = make_matrix([[0, 1, 2], [1, 2, 0]], shape=(3, 5))
    model = ours().fit(train)
    with_unknown, without = make_matrix([[0, 4, 1]], (3, 5)), make_matrix([[0, 1]], (3, 5))
    assert (model.predict(with_unknown) != model.predict(without)).nnz == 0
    with pytest.warns(UserWarning, match="no recommendation for 1 of 2 users"):
        predicted = model.predict(make_matrix([[0, 1], [4]], (3, 5)))
    assert np.diff(predicted.indptr).tolist() == [3, 0, 0]


def test_a_second_fit_gives_the_same_model(ours, theirs, matrix):
    def fit_twice(estimator):
        return [estimator.fit(matrix, (matrix, matrix)).predict(matrix) for _ in range(2)]

    first, second = fit_twice(theirs(keep_last=True))
    assert (first != second).nnz > 0
    first, second = fit_twice(ours())
    assert (first != second).nnz == 0


def test_another_library_s_random_state_is_left_alone(ours, theirs):
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    ours(seed=1)
    assert np.random.random() == expected
    np.random.seed(7)
    theirs(seed=1)
    assert np.random.random() != expected
