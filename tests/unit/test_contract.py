"""recpack's contract, a test per parameter, method and attribute; docs/recpack.md maps them to the tests here.

A test of a parameter shows what it does, not that it is accepted. Matrices are a fake of recpack's InteractionMatrix.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.model_selection import ParameterGrid
from sklearn.utils import estimator_checks
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from gru4rec.errors import DataError, ParameterError
from gru4rec.estimator import GRU4RecCrossEntropy, GRU4RecNegSampling
from gru4rec.model import Model
from gru4rec.model_folder import DIGESTS, FILES, PARTS, load_model
from gru4rec.stopping import StoppingCriterion

ROOT = Path(__file__).parents[2]
ESTIMATORS = [GRU4RecNegSampling, GRU4RecCrossEntropy]
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)

ITEMS = [0, 1, 2, 4, 5, 6, 7]  # item 3 of 8 never occurs
SHAPE = (14, 8)  # users 12 and 13 have no history
HISTORIES = {user: [ITEMS[(user + step * (1 + user % 2)) % 7] for step in range(4)] for user in range(12)}
LARGE = 1000  # more than there are users: with bptt=3 an epoch is then one mini-batch
SMALL = {
    "hidden_size": 6,
    "num_components": 4,
    "batch_size": 4,
    "max_epochs": 1,
    "learning_rate": 0.1,
    "seed": 5,
    "device": "cpu",
}
ONE_UPDATE = {**SMALL, "batch_size": LARGE, "bptt": 3, "optimization_algorithm": "sgd", "clipnorm": None}


@pytest.fixture(scope="module")
def make_matrix(make_interactions):
    """Build a matrix from a history for each of some users; events of all users alternate."""

    def make(histories, shape=SHAPE, **parameters):
        events = [(user, item, step) for user, history in histories.items() for step, item in enumerate(history)]
        return make_interactions(sorted(events, key=lambda event: -event[2]), shape, **parameters)

    return make


@pytest.fixture(scope="module")
def matrix(make_matrix):
    return make_matrix(HISTORIES)


@pytest.fixture(scope="module")
def validation(make_matrix):
    """The first half of five histories, and what comes after it."""
    return tuple(make_matrix({user: HISTORIES[user][half] for user in range(5)}) for half in (slice(2), slice(2, 4)))


@pytest.fixture(scope="module")
def trained(matrix, validation):
    return GRU4RecNegSampling(**SMALL).fit(matrix, validation)


@pytest.fixture
def scripted(monkeypatch):
    """Make the criterion take the given values, an epoch each."""

    def script(*values):
        remaining = list(values)
        monkeypatch.setattr(StoppingCriterion, "evaluate", lambda *_: remaining.pop(0))

    return script


@pytest.fixture
def scored_users(monkeypatch):
    """A list that fills with the users of each call that scores items."""
    calls, best_items = [], Model.best_items

    def recording(self, known, *arguments):
        calls.append(known.session_ids.tolist())
        return best_items(self, known, *arguments)

    monkeypatch.setattr(Model, "best_items", recording)
    return calls


@pytest.fixture
def mini_batches(monkeypatch):
    """A list with an entry per mini-batch: gradients are clipped once in each."""
    calls = []
    monkeypatch.setattr("gru4rec.training.clip_norm", lambda *_: calls.append(1))
    return calls


def weights_of(estimator):
    return {name: weight.double().numpy() for name, weight in sorted(estimator.model_.network.weights.items())}


def vector(estimator):
    """All weights as one vector."""
    return np.concatenate([weight.ravel() for weight in weights_of(estimator).values()])


def same_weights(first, second):
    return np.array_equal(vector(first), vector(second))


def fitted(matrix, validation_data=None, **parameters):
    return GRU4RecNegSampling(**{**SMALL, **parameters}).fit(matrix, validation_data)


def untrained(matrix, **parameters):
    """The start of a training: a learning rate that leaves every weight where it was, as far as 1e-6 can tell."""
    return fitted(matrix, **{**parameters, "learning_rate": 1e-9, "max_epochs": 1})


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_num_layers_is_the_number_of_gru_layers(matrix, num_layers):
    estimator = fitted(matrix, num_layers=num_layers)
    assert sum(name.endswith(".recurrent") for name in weights_of(estimator)) == num_layers
    before = estimator.predict(matrix).toarray()
    estimator.model_.network.weights[f"gru.{num_layers - 1}.input"].zero_()
    assert not np.allclose(estimator.predict(matrix).toarray(), before)  # the last one is in use


@pytest.mark.parametrize("hidden_size", [3, 8])
def test_hidden_size_is_the_width_of_the_state(matrix, hidden_size):
    weights = weights_of(fitted(matrix, hidden_size=hidden_size))
    assert weights["gru.0.recurrent"].shape == (3 * hidden_size, hidden_size)
    assert weights["output_table"].shape == (7, hidden_size)


@pytest.mark.parametrize("num_components", [2, 9])
def test_num_components_is_the_width_of_the_item_embedding(matrix, num_components):
    weights = weights_of(fitted(matrix, num_components=num_components))
    assert weights["input_table"].shape == (7, num_components)
    assert weights["gru.0.input"].shape == (3 * 6, num_components)


def test_dropout_is_for_training_only(matrix):
    plain, noisy = fitted(matrix), fitted(matrix, dropout=0.5)
    assert not same_weights(plain, noisy)
    assert (noisy.predict(matrix) != noisy.predict(matrix)).nnz == 0
    # With almost everything dropped almost nothing is learned, by any weight behind the dropout.
    start, lost = untrained(matrix), fitted(matrix, dropout=0.999999, optimization_algorithm="sgd")
    np.testing.assert_allclose(weights_of(lost)["output_table"], weights_of(start)["output_table"], atol=1e-7)


# --- the loss and the updates ----------------------------------------------------------------------------------------


def test_loss_fn_decides_what_is_learned(matrix):
    learned = [vector(fitted(matrix, loss_fn=name)) for name in ("top1", "top1-max", "bpr", "bpr-max")]
    for place, one in enumerate(learned):
        assert not any(np.allclose(one, other, atol=1e-5) for other in learned[:place])


def test_loss_fn_is_bpr_by_default(matrix):
    assert same_weights(fitted(matrix), fitted(matrix, loss_fn="bpr"))


def test_loss_fn_of_another_name_is_refused(matrix):
    with pytest.raises(ParameterError, match=r"^loss_fn must be one of .*top1, top1-max, bpr, bpr-max, got 'hinge'$"):
        fitted(matrix, loss_fn="hinge")


def test_optimization_algorithm_decides_the_size_of_a_step(matrix):
    """The first step of Adagrad is the learning rate, whatever the gradient; that of SGD goes with the gradient."""
    start = untrained(matrix, **ONE_UPDATE)
    sgd, adagrad = (
        vector(fitted(matrix, **{**ONE_UPDATE, "optimization_algorithm": name, "epsilon": 1e-6})) - vector(start)
        for name in ("sgd", "adagrad")
    )
    assert np.abs(adagrad).max() <= 0.1 + 1e-6
    gradient = -sgd / 0.1
    np.testing.assert_allclose(adagrad, -0.1 * gradient / np.sqrt(gradient**2 + 1e-6), atol=2e-4)
    assert not np.allclose(adagrad, sgd, atol=1e-3)


def test_optimization_algorithm_of_another_name_is_refused(matrix):
    with pytest.raises(ParameterError, match=r"^optimization_algorithm must be one of adagrad, sgd, got 'adam'$"):
        fitted(matrix, optimization_algorithm="adam")


def test_momentum_carries_the_first_step_of_sgd_into_the_second(matrix):
    """The second step has the same gradient with and without momentum, since the first steps are the same."""
    start, once = untrained(matrix, **ONE_UPDATE), fitted(matrix, **ONE_UPDATE)
    assert same_weights(once, fitted(matrix, **ONE_UPDATE, momentum=0.75))
    plain, carried = (fitted(matrix, **{**ONE_UPDATE, "max_epochs": 2}, momentum=value) for value in (0.0, 0.75))
    for name in ("gru.0.input", "gru.0.recurrent", "gru.0.input_bias"):
        first_step = weights_of(once)[name] - weights_of(start)[name]
        difference = weights_of(carried)[name] - weights_of(plain)[name]
        assert np.abs(first_step).max() > 1e-6
        np.testing.assert_allclose(difference, 0.75 * first_step, atol=3e-7)


# An update of the whole log, whose gradient is large because its one mini-batch is hardly larger than the log.
STEEP = {**ONE_UPDATE, "batch_size": 12, "learning_rate": 1.0}


@pytest.mark.parametrize("clipnorm", [0.01, 0.05])
def test_clipnorm_bounds_the_l2_norm_of_the_gradient(matrix, clipnorm):
    start = vector(untrained(matrix, **STEEP))
    free = vector(fitted(matrix, **STEEP)) - start  # with SGD and a learning rate of 1: minus the gradient
    clipped = vector(fitted(matrix, **{**STEEP, "clipnorm": clipnorm})) - start
    assert np.linalg.norm(free) > 0.06  # None does not clip
    assert np.linalg.norm(clipped) == pytest.approx(clipnorm, rel=1e-4)
    np.testing.assert_allclose(clipped, free * clipnorm / np.linalg.norm(free), atol=1e-6)


def test_clipnorm_leaves_a_small_gradient_alone(matrix):
    assert same_weights(fitted(matrix, **STEEP), fitted(matrix, **{**STEEP, "clipnorm": 100.0}))


@pytest.mark.parametrize("bptt", [1, 2, 3])
def test_bptt_is_how_many_steps_back_gradients_flow(make_matrix, gru_steps, bptt):
    """One user, full softmax, so small a learning rate that an epoch is one gradient: compare it with autograd's."""
    matrix = make_matrix({0: [0, 1, 2, 4, 2, 0, 1]})
    parameters = {**ONE_UPDATE, "batch_size": 1, "bptt": bptt, "learning_rate": 1e-2, "max_epochs": 1}
    after = GRU4RecCrossEntropy(**parameters).fit(matrix)
    start = GRU4RecCrossEntropy(**{**parameters, "learning_rate": 1e-9}).fit(matrix)
    weights = {name: torch.tensor(weight, requires_grad=True) for name, weight in weights_of(start).items()}
    layer = [weights[f"gru.0.{part}"] for part in ("input", "recurrent", "input_bias", "recurrent_bias")]
    items, hidden, losses = torch.tensor([0, 1, 2, 3, 2, 0, 1]), torch.zeros(1, 6, dtype=torch.double), []
    for step in range(6):
        if step % bptt == 0:
            hidden = hidden.detach()
        embedded = weights["input_table"][items[step : step + 1]]
        states, hidden = gru_steps(layer, embedded, torch.tensor([step == 0]), hidden, [1])
        scores = states @ weights["output_table"].T + weights["item_bias"]
        losses.append(torch.nn.functional.cross_entropy(scores, items[step + 1 : step + 2]))
    (torch.stack(losses).sum() / bptt).backward()
    recurrent = weights["gru.0.recurrent"].grad.numpy()
    found = (weights_of(start)["gru.0.recurrent"] - weights_of(after)["gru.0.recurrent"]) / 1e-2
    # The windows differ by half of the gradient; what the epoch's own steps add is far less.
    assert np.linalg.norm(found - recurrent) < 0.05 * np.linalg.norm(recurrent)


@pytest.mark.parametrize(("bptt", "expected"), [(1, 9), (2, 5), (3, 3), (9, 1)])
def test_bptt_steps_make_one_update(matrix, mini_batches, bptt, expected):
    fitted(matrix, bptt=bptt)  # 12 users on 4 lanes, three targets each: 9 steps
    assert len(mini_batches) == expected


@pytest.mark.parametrize(("negatives", "most"), [("shared", 4), ("per_target", 4)])
def test_num_negatives_is_how_many_items_a_target_is_compared_with(make_matrix, negatives, most):
    """One target in the whole log, among 60 items: the output rows that move are its own and those of negatives."""
    matrix = make_matrix({0: [0, 1]} | {user: [user + 1] for user in range(1, 59)}, shape=(59, 60))

    def moved(num_negatives):
        parameters = {**ONE_UPDATE, "num_negatives": num_negatives, "batch_size": 2, "negatives": negatives}
        change = weights_of(fitted(matrix, **parameters))["item_bias"]  # it starts at zero
        return np.count_nonzero(change)

    assert moved(1) == 2
    assert 2 < moved(3) <= most
    assert moved(2000) == 60


@pytest.mark.parametrize(("batch_size", "expected"), [(1, 36), (4, 9), (6, 6), (12, 3), (LARGE, 3)])
def test_batch_size_is_how_many_users_one_update_learns_from(matrix, mini_batches, batch_size, expected):
    estimator = fitted(matrix, batch_size=batch_size)
    assert len(mini_batches) == expected
    assert estimator.history_[0]["num_targets"] == 36


@pytest.mark.parametrize("max_epochs", [1, 3])
def test_max_epochs_is_how_often_the_log_is_passed(matrix, max_epochs):
    estimator = fitted(matrix, max_epochs=max_epochs)
    assert [record["epoch"] for record in estimator.history_] == [*range(1, max_epochs + 1)]
    assert not same_weights(estimator, fitted(matrix, max_epochs=max_epochs + 1))


def test_learning_rate_is_the_length_of_a_step(matrix):
    start = vector(untrained(matrix, **ONE_UPDATE))
    short, long = (vector(fitted(matrix, **{**ONE_UPDATE, "learning_rate": rate})) - start for rate in (0.5, 1.5))
    assert np.linalg.norm(short) > 1e-4
    np.testing.assert_allclose(long, 3 * short, atol=1e-6)


def test_seed_decides_every_bit(matrix, validation):
    first, again, other = (fitted(matrix, validation, dropout=0.3, seed=seed) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not same_weights(first, other)
    assert (first.predict(matrix) != again.predict(matrix)).nnz == 0


def test_seed_none_draws_another_each_time(matrix):
    first, second = (fitted(matrix, seed=None) for _ in range(2))
    assert not same_weights(first, second)
    assert same_weights(first, fitted(matrix, seed=first.seed_))


# --- which epoch is kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "kept"),
    # User 0 has one true item and user 1 three. Epoch 1 puts the one first and the three last, epoch 2 two of the three
    # first. By hand, with k = 2:
    [
        ("recall@2", 1),  # (1 + 0) / 2, then (0 + 2/3) / 2
        ("precision@2", 2),  # (1/2 + 0) / 2, then (0 + 1) / 2
        ("mrr@2", 1),  # 1/2 twice; the first of equals is kept
        ("ndcg@2", 1),  # 1/2 twice
        ("bpr", 2),  # one pair of four in order, then two
        ("warp", 2),
    ],
)
def test_stopping_criterion_decides_which_epoch_is_kept(monkeypatch, make_matrix, matrix, criterion, kept):
    scores = np.zeros((2, 2, 7), dtype=np.float32)  # epochs, users, items by index
    scores[0] = [[9, 5, 5, 5, 5, 5, 5], [6, 5, 5, 5, 1, 1, 1]]
    scores[1] = [[1, 5, 5, 5, 5, 5, 5], [5, 5, 5, 5, 9, 9, 1]]
    epochs = iter(scores)

    def best_items(_, known, k):
        of_all = next(epochs)[known.session_ids]
        best = np.argsort(-of_all, axis=1, kind="stable")[:, :k]
        return best, np.take_along_axis(of_all, best, axis=1)

    monkeypatch.setattr(Model, "best_items", best_items)
    validation = make_matrix({0: [1], 1: [0]}), make_matrix({0: [0], 1: [5, 6, 7]})
    estimator = fitted(matrix, validation, max_epochs=2, stopping_criterion=criterion)
    assert estimator.best_epoch_ == kept
    assert same_weights(estimator, fitted(matrix, max_epochs=kept))


@pytest.mark.parametrize("name", StoppingCriterion.FUNCTIONS)
def test_stopping_criterion_is_computed_after_each_epoch(matrix, validation, name):
    estimator = fitted(matrix, validation, max_epochs=2, stopping_criterion=name)
    expected = StoppingCriterion.create(name)
    key = name if expected.minimize else f"{name}@50"
    chosen = slice(5)  # the users of the validation data
    predicted = estimator.predict(validation[0])[chosen]
    value = estimator.history_[estimator.best_epoch_ - 1][key]
    assert value == pytest.approx(expected.evaluate(validation[1].values[chosen], predicted))


def test_stopping_criterion_of_another_name_is_refused(matrix, validation):
    with pytest.raises(ParameterError, match=r"^unknown metric 'recal'; did you mean 'recall'\?$"):
        fitted(matrix, validation, stopping_criterion="recal@5")


@pytest.mark.parametrize(("stop_early", "epochs"), [(False, 7), (True, 4)])
def test_stop_early_ends_the_training_before_max_epochs(matrix, validation, scripted, stop_early, epochs):
    scripted(0.1, 0.3, 0.2, 0.3, 0.9, 0.9, 0.9)
    estimator = fitted(matrix, validation, max_epochs=7, stop_early=stop_early, max_iter_no_change=2)
    assert len(estimator.history_) == epochs
    assert estimator.best_epoch_ == (2 if stop_early else 5)
    assert same_weights(estimator, fitted(matrix, max_epochs=estimator.best_epoch_))


@pytest.mark.parametrize(("max_iter_no_change", "epochs"), [(1, 2), (2, 5), (3, 6), (4, 8)])
def test_max_iter_no_change_is_how_many_epochs_in_a_row_may_bring_nothing(
    matrix, validation, scripted, max_iter_no_change, epochs
):
    scripted(0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.3, 0.4)
    parameters = {"max_epochs": 8, "stop_early": True, "max_iter_no_change": max_iter_no_change}
    assert len(fitted(matrix, validation, **parameters).history_) == epochs


@pytest.mark.parametrize(("min_improvement", "kept", "epochs"), [(0.0, 5, 5), (0.125, 4, 5), (0.25, 1, 3)])
def test_min_improvement_is_what_a_value_must_exceed_the_best_by(
    matrix, validation, scripted, min_improvement, kept, epochs
):
    scripted(0.5, 0.625, 0.75, 1.0, 1.0625)
    parameters = {"max_epochs": 5, "stop_early": True, "max_iter_no_change": 2, "min_improvement": min_improvement}
    estimator = fitted(matrix, validation, **parameters)
    assert (estimator.best_epoch_, len(estimator.history_)) == (kept, epochs)


@pytest.mark.parametrize(("keep_last", "kept"), [(False, 1), (True, 3)])
def test_keep_last_keeps_the_last_epoch_and_not_the_best(matrix, validation, scripted, keep_last, kept):
    scripted(0.3, 0.2, 0.1)
    estimator = fitted(matrix, validation, max_epochs=3, keep_last=keep_last)
    assert same_weights(estimator, fitted(matrix, max_epochs=kept))


@pytest.mark.parametrize("save_best_to_file", [False, True])
def test_save_best_to_file_writes_the_best_epoch(
    matrix, validation, scripted, tmp_path, monkeypatch, save_best_to_file
):
    monkeypatch.chdir(tmp_path)
    scripted(0.3, 0.2, 0.1)
    estimator = fitted(matrix, validation, max_epochs=3, save_best_to_file=save_best_to_file)
    assert [path.name for path in tmp_path.iterdir()] == ([estimator.filename] if save_best_to_file else [])
    if save_best_to_file:
        written = load_model(estimator.filename).network.weights
        best = fitted(matrix, max_epochs=1).model_.network.weights
        assert all(torch.equal(written[name], weight) for name, weight in best.items())


@pytest.mark.parametrize(("sample_size", "count"), [(1, 1), (3, 3), (5, 5), (99, 5), (None, 5)])
def test_validation_sample_size_limits_the_users_that_are_scored(matrix, validation, scored_users, sample_size, count):
    fitted(matrix, validation, max_epochs=3, validation_sample_size=sample_size)
    assert len(scored_users) == 3
    assert scored_users[0] == scored_users[1] == scored_users[2]  # one draw per fit
    assert len(set(scored_users[0])) == count
    assert set(scored_users[0]) <= set(range(5))


def test_validation_sample_size_draws_by_the_seed(matrix, validation, scored_users):
    for seed in (0, 0, *range(1, 8)):
        fitted(matrix, validation, seed=seed, validation_sample_size=2)
    assert scored_users[0] == scored_users[1]
    assert len({tuple(users) for users in scored_users}) > 1


@pytest.mark.parametrize("seed", range(4))
def test_validation_sample_size_draws_users_that_count(matrix, make_matrix, seed):
    """Of eight users with a history one has something true: it must be the one that is drawn."""
    validation = make_matrix({user: HISTORIES[user][:2] for user in range(8)}), make_matrix({2: HISTORIES[2][2:]})
    estimator = fitted(matrix, validation, seed=seed, validation_sample_size=1)
    assert estimator.history_[0]["recall@50"] == 1.0  # all seven items are among the first 50


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True])
@pytest.mark.parametrize("name", ["validation_sample_size", "predict_topK"])
def test_sizes_that_are_no_whole_number_are_refused(matrix, validation, name, value):
    with pytest.raises(ParameterError) as error:
        fitted(matrix, validation, **{name: value}).predict(matrix)
    assert str(error.value) == f"{name} must be a whole number >= 1 or None, got {value!r}"


# --- fit -------------------------------------------------------------------------------------------------------------


@each_estimator
def test_fit_returns_self(matrix, validation, estimator):
    for arguments in [(matrix,), (matrix, validation), (matrix, list(validation))]:
        made = estimator(**SMALL)
        assert made.fit(*arguments) is made


def test_fit_needs_no_validation_data(matrix):
    estimator = fitted(matrix, max_epochs=2)
    assert estimator.best_epoch_ == 2
    assert "recall@50" not in estimator.history_[0]


def test_fit_a_second_time_gives_the_same_weights(matrix, validation):
    estimator = GRU4RecNegSampling(**SMALL, dropout=0.3, validation_sample_size=2)
    first = vector(estimator.fit(matrix, validation))
    assert np.array_equal(vector(estimator.fit(matrix, validation)), first)


def test_fit_reads_histories_in_order_of_time(matrix, make_interactions):
    """The same log as sessions of a DataFrame gives the same weights; with times reversed it gives others."""
    events = [(user, item, step) for user, history in HISTORIES.items() for step, item in enumerate(history)]
    frame = pd.DataFrame(events, columns=["SessionId", "ItemId", "Time"])
    backwards = make_interactions([(user, item, -step) for user, item, step in events], SHAPE)
    assert same_weights(fitted(matrix), fitted(frame))
    assert not same_weights(fitted(matrix), fitted(backwards))


def test_fit_leaves_parameters_and_matrices_alone(matrix, validation):
    estimator, matrices = GRU4RecNegSampling(**SMALL), [matrix, *validation]
    before = estimator.get_params(), copy.deepcopy(matrices)
    estimator.fit(matrix, validation)
    assert estimator.get_params() == before[0]
    for one, untouched in zip(matrices, before[1], strict=True):
        pd.testing.assert_series_equal(one.timestamps, untouched.timestamps)


NO_ORDER = [sparse.csr_matrix(SHAPE), np.zeros(SHAPE)]


@each_estimator
@pytest.mark.parametrize("given", NO_ORDER, ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("place", ["X", "validation_data[0]", "validation_data[1]", "predict"])
def test_fit_and_predict_refuse_what_carries_no_order(matrix, validation, trained, estimator, given, place):
    with pytest.raises(TypeError) as error:
        if place == "X":
            estimator(**SMALL).fit(given, validation)
        elif place == "predict":
            trained.predict(given)
        else:
            pair = (given, validation[1]) if place == "validation_data[0]" else (validation[0], given)
            estimator(**SMALL).fit(matrix, pair)
    name = "X" if place == "predict" else place
    assert str(error.value).startswith(f"{name} must be an InteractionMatrix, Sessions or a DataFrame, got ")
    assert str(error.value).endswith("; hint: the order of events is needed, which a csr matrix does not carry")


def test_fit_refuses_matrices_without_timestamps(matrix, validation, trained, make_matrix):
    without = make_matrix(HISTORIES, timestamps=False)
    for arguments in [(without, validation), (matrix, (without, validation[1])), (matrix, (validation[0], without))]:
        with pytest.raises(ValueError, match="has no timestamps, so its events have no order; hint: "):
            GRU4RecNegSampling(**SMALL).fit(*arguments)
    with pytest.raises(ValueError, match=r"^X has no timestamps"):
        trained.predict(without)


@pytest.mark.parametrize("place", [0, 1])
def test_fit_names_both_shapes_when_they_differ(matrix, validation, make_matrix, place):
    pair = list(validation)
    pair[place] = make_matrix({0: [0, 1]}, shape=(14, 9))
    with pytest.raises(ValueError) as error:
        fitted(matrix, pair)
    assert str(error.value) == f"validation_data[{place}] has shape (14, 9), but X has shape (14, 8)"


@pytest.mark.parametrize("shorten", [lambda pair: pair[0], lambda pair: pair[:1], lambda pair: (*pair, pair[0])])
def test_fit_refuses_validation_data_that_are_no_pair(matrix, validation, shorten):
    with pytest.raises(TypeError, match="must be a pair"):
        fitted(matrix, shorten(validation))


def test_fit_refuses_a_pair_of_matrices_beside_a_dataframe(validation):
    """Columns of a matrix say nothing about the ids of a log."""
    frame = pd.DataFrame({"SessionId": [1, 1, 2, 2], "ItemId": [10, 20, 20, 30], "Time": range(4)})
    with pytest.raises(TypeError, match=r"^validation_data of .* must be "):
        fitted(frame, validation)


@pytest.mark.parametrize("given", NO_ORDER, ids=lambda given: type(given).__name__)
def test_fit_names_validation_data_where_they_are_to_blame(given):
    frame = pd.DataFrame({"SessionId": [1, 1, 2, 2], "ItemId": [10, 20, 20, 30], "Time": range(4)})
    with pytest.raises(
        TypeError, match=r"^validation_data must be an InteractionMatrix, Sessions or a DataFrame, got "
    ):
        fitted(frame, given)


def test_fit_that_failed_changes_nothing(matrix, validation, trained, make_matrix):
    estimator = copy.deepcopy(trained)
    wider = [make_matrix(histories, shape=(14, 9)) for histories in (HISTORIES, {0: [0]}, {1: [0]})]
    with pytest.raises(DataError):
        estimator.fit(wider[0], wider[1:])  # nobody has both a history and something true
    assert (estimator.predict(matrix) != trained.predict(matrix)).nnz == 0


def test_fit_refuses_validation_data_without_anything_true(matrix, make_matrix):
    """Users 0 and 1 have a history, users 2 and 3 something true."""
    with pytest.raises(DataError, match="no user"):
        fitted(matrix, (make_matrix({0: [0], 1: [1]}), make_matrix({2: [0], 3: [1]})))


# --- predict ---------------------------------------------------------------------------------------------------------


@each_estimator
def test_predict_has_the_shape_of_the_matrix_and_a_row_per_user_with_history(matrix, make_matrix, estimator):
    made = estimator(**SMALL).fit(matrix)
    scores = made.predict(make_matrix({9: [0, 1], 2: [7]}))
    assert isinstance(scores, sparse.csr_matrix)
    assert scores.shape == SHAPE
    stored = np.diff(scores.indptr)
    assert stored[[2, 9]].tolist() == [7, 7]  # all items that were learned
    assert stored.sum() == 14  # users without history have an empty row


def test_predict_has_items_in_their_columns(matrix, trained):
    """Item 3 was not learned, so indices of the model and columns differ from there on."""
    scores = trained.predict(matrix)
    table = trained.recommend(matrix, k=7).table
    for user, rows in table.groupby("session"):
        found = scores.getrow(user)
        by_score = found.indices[np.argsort(-found.data)]
        assert by_score.tolist() == rows["item"].tolist()
    assert set(scores.indices) == set(ITEMS)


def test_predict_learns_a_cycle(make_matrix):
    """Users walk 0 -> 1 -> 2 -> 4 -> 5 -> 6 -> 7 -> 0: after enough epochs the next item is recommended first."""
    matrix = make_matrix({user: [ITEMS[(user + step) % 7] for step in range(5)] for user in range(12)})
    estimator = fitted(matrix, max_epochs=60)
    best = np.asarray(estimator.predict(matrix).toarray()[:12].argmax(1))
    assert best.tolist() == [ITEMS[(user + 5) % 7] for user in range(12)]


def test_predict_warns_how_many_users_got_nothing(trained, make_matrix):
    """Users 1 and 4 know nothing but item 3, which was not learned; user 2 also knows another."""
    histories = make_matrix({1: [3], 4: [3, 3], 2: [3, 0], 5: [7]})
    with pytest.warns(UserWarning, match=r"^GRU4RecNegSampling made no recommendation for 2 of 4 users: ") as warned:
        scores = trained.predict(histories)
    assert len(warned) == 1
    assert np.flatnonzero(np.diff(scores.indptr)).tolist() == [2, 5]


def test_predict_of_users_of_whom_nothing_is_known_is_empty(trained, make_matrix):
    with pytest.warns(UserWarning, match="made no recommendation for 2 of 2 users"):
        scores = trained.predict(make_matrix({1: [3], 4: [3]}))
    assert (scores.shape, scores.nnz) == (SHAPE, 0)


def test_predict_gives_every_user_with_history_something(trained, matrix):
    """Warnings are errors here: none is given."""
    assert np.flatnonzero(np.diff(trained.predict(matrix).indptr)).tolist() == [*range(12)]


@each_estimator
def test_predict_before_fit_is_not_fitted(matrix, estimator):
    with pytest.raises(NotFittedError):
        estimator().predict(matrix)


def test_predict_names_both_when_the_number_of_columns_differs(trained, make_matrix):
    with pytest.raises(ValueError, match=r"^X has shape \(14, 9\), but the model was fitted on 8 items \(columns\)$"):
        trained.predict(make_matrix({0: [0]}, shape=(14, 9)))


def test_predict_refuses_a_matrix_when_a_log_was_fitted(matrix):
    """As many items as columns, but nothing says which is which."""
    frame = pd.DataFrame({"SessionId": [1] * 8, "ItemId": [*"abcdefgh"], "Time": range(8)})
    with pytest.raises(ValueError, match=r"^X is an InteractionMatrix, but the model was fitted on a log"):
        fitted(frame).predict(matrix)


def test_predict_takes_any_number_of_users(trained, matrix, make_matrix):
    few = trained.predict(make_matrix({0: HISTORIES[0], 1: HISTORIES[1]}, shape=(2, 8)))
    assert few.shape == (2, 8)
    np.testing.assert_allclose(few.toarray(), trained.predict(matrix)[:2].toarray(), rtol=1e-5)


def test_predict_of_a_log_has_the_columns_of_the_matrix_that_was_fitted(trained, matrix):
    """Sessions start in the order of users here, so the rows are the same too."""
    frame = pd.DataFrame(
        [(user, item, 10 * user + step) for user, history in HISTORIES.items() for step, item in enumerate(history)],
        columns=["SessionId", "ItemId", "Time"],
    )
    np.testing.assert_allclose(trained.predict(frame).toarray(), trained.predict(matrix)[:12].toarray(), rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_predict_topk_keeps_the_best_items_of_each_row(matrix, trained, k):
    everything = trained.predict(matrix).toarray()
    kept = copy.deepcopy(trained).set_params(predict_topK=k).predict(matrix)
    assert np.diff(kept.indptr)[:12].tolist() == [k] * 12
    for user in range(12):
        best = np.sort(np.delete(everything[user], 3))[::-1][:k]
        np.testing.assert_allclose(np.sort(kept.getrow(user).data)[::-1], best, rtol=1e-5)


# --- save, load, names -----------------------------------------------------------------------------------------------


def test_predict_of_no_interactions_is_empty(matrix, make_interactions):
    empty = make_interactions([], matrix.shape)
    scores = fitted(matrix).predict(empty)
    assert (scores.shape, scores.nnz) == (matrix.shape, 0)


def test_load_forgets_the_history_of_an_earlier_fit(matrix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimator = fitted(matrix)
    estimator.load(estimator.save())
    assert not hasattr(estimator, "history_")


@each_estimator
def test_save_and_load_give_the_same_predictions(matrix, estimator, tmp_path, monkeypatch):
    """Also of a matrix one of whose columns never occurred."""
    monkeypatch.chdir(tmp_path)
    made = estimator(**SMALL).fit(matrix)
    made.save()
    loaded = estimator(device="cpu")
    assert loaded.load(made.filename) is loaded
    assert same_weights(loaded, made)
    again = loaded.predict(matrix)
    assert again.shape == SHAPE
    assert (again != made.predict(matrix)).nnz == 0


def test_save_uses_no_pickle(trained, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickle is used")

    monkeypatch.chdir(tmp_path)
    for module, name in [(pickle, "dump"), (pickle, "dumps"), (pickle, "load"), (pickle, "loads"), (torch, "save")]:
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    trained.save()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {*FILES, DIGESTS, *PARTS["examples"]}
    for path in files:
        assert not path.read_bytes().startswith((b"\x80", b"PK"))  # pickle, and torch's archive of one
    GRU4RecNegSampling(device="cpu").load(trained.filename)


def test_filename_is_where_save_writes(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert trained.save() == Path(trained.filename)
    assert [path.name for path in tmp_path.iterdir()] == [trained.filename]
    assert clone(trained).filename == trained.filename
    assert clone(trained).set_params(hidden_size=7).filename != trained.filename


@each_estimator
def test_name_is_the_class(estimator):
    assert estimator().name == estimator.__name__


@each_estimator
def test_identifier_is_a_call_that_makes_an_equal_estimator(estimator):
    made = estimator(hidden_size=7, clipnorm=None, stopping_criterion="ndcg", predict_topK=3)
    again = eval(made.identifier, {estimator.__name__: estimator})
    assert type(again) is estimator
    assert again.get_params() == made.get_params()


# --- scikit-learn ----------------------------------------------------------------------------------------------------


@each_estimator
def test_get_params_is_what_was_given(estimator):
    parameters = {**SMALL, "momentum": 0.5, "keep_last": True}
    found = estimator(**parameters).get_params()
    assert {name: found[name] for name in parameters} == parameters
    assert set(found) == set(inspect.signature(estimator).parameters)


def test_set_params_takes_effect(matrix):
    changed = fitted(matrix).set_params(loss_fn="top1-max").fit(matrix)
    assert same_weights(changed, fitted(matrix, loss_fn="top1-max"))
    assert not same_weights(changed, fitted(matrix))


def test_set_params_names_the_nearest_of_an_unknown_parameter():
    with pytest.raises(ParameterError, match=r"'los_fn'; did you mean 'loss_fn'\?$"):
        GRU4RecNegSampling().set_params(los_fn="bpr")


class Meta(MetaEstimatorMixin, BaseEstimator):
    """The least that routes what `fit` is given to an estimator."""

    def __init__(self, estimator):
        self.estimator = estimator

    def get_metadata_routing(self):
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(estimator=self.estimator, method_mapping=mapping)

    def fit(self, X, **parameters):  # noqa: N803 - scikit-learn's name
        routed = process_routing(self, "fit", **parameters)
        self.estimator.fit(X, **routed.estimator.fit)
        return self


@each_estimator
@pytest.mark.parametrize("request_", [True, False, None, "held_out"])
def test_get_metadata_routing_tells_what_set_fit_request_asked_for(estimator, request_):
    with sklearn.config_context(enable_metadata_routing=True):
        made = estimator()
        assert made.get_metadata_routing().fit.requests == {"validation_data": None}
        assert made.set_fit_request(validation_data=request_) is made
        assert made.get_metadata_routing().fit.requests == {"validation_data": request_}
        assert clone(made).get_metadata_routing().fit.requests == {"validation_data": request_}


@pytest.mark.parametrize(("request_", "name"), [(True, "validation_data"), ("held_out", "held_out")])
def test_set_fit_request_routes_validation_data_through_a_meta_estimator(matrix, validation, request_, name):
    with sklearn.config_context(enable_metadata_routing=True):
        inner = GRU4RecNegSampling(**SMALL).set_fit_request(validation_data=request_)
        Meta(inner).fit(matrix, **{name: validation})
    assert "recall@50" in inner.history_[0]


def test_set_fit_request_unset_is_an_error_of_the_meta_estimator(matrix, validation):
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(UnsetMetadataPassedError, match="validation_data"),
    ):
        Meta(GRU4RecNegSampling(**SMALL)).fit(matrix, validation_data=validation)


# The checks that need no fit on an array; the others fit estimators of feature matrices.
CHECKS = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]


@each_estimator
@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_scikit_learn(estimator, check):
    getattr(estimator_checks, check)(estimator.__name__, estimator())


def test_a_parameter_grid_of_numpy_values(matrix, validation, tmp_path, monkeypatch):
    """Every combination can be fitted, scored, saved and made again from its identifier."""
    monkeypatch.chdir(tmp_path)
    grid = ParameterGrid(
        {
            "loss_fn": ["bpr-max", "top1"],
            "hidden_size": np.array([3, 5]),
            "learning_rate": np.array([0.05]),
            "seed": np.array([7]),
            "max_epochs": np.array([2]),
            "max_iter_no_change": np.array([2]),
            "min_improvement": np.array([0.0]),
            "predict_topK": np.array([2]),
            "validation_sample_size": np.array([3]),
        }
    )
    base, names = GRU4RecNegSampling(**SMALL), set()
    for parameters in grid:
        estimator = clone(base).set_params(**parameters).fit(matrix, validation)
        assert estimator.model_.hyperparameters.hidden_size == parameters["hidden_size"]
        assert np.diff(estimator.predict(matrix).indptr).max() == 2
        assert eval(estimator.identifier, {estimator.name: GRU4RecNegSampling}).get_params() == estimator.get_params()
        names.add(estimator.save())
    assert len(names) == len(grid) == 4


# --- docs/recpack.md -------------------------------------------------------------------------------------------------

METHODS = [
    "fit",
    "predict",
    "save",
    "load",
    "filename",
    "name",
    "identifier",
    "get_params",
    "set_params",
    "get_metadata_routing",
    "set_fit_request",
]
ROW = re.compile(r"^\| `(\w+)` \|(.+)\|([^|]+)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_part_of_the_contract_has_a_row_with_a_test_that_exists():
    text = (ROOT / "docs/recpack.md").read_text(encoding="utf-8")
    rows = {name: (meaning.strip(), TEST.findall(tests)) for name, meaning, tests in ROW.findall(text)}
    parameters = [*inspect.signature(GRU4RecNegSampling).parameters]
    contract = parameters[: parameters.index("validation_sample_size") + 1]
    assert [name for name in [*contract, *METHODS] if not all(rows.get(name, ("", [])))] == []


def test_every_test_that_the_table_names_exists():
    named = TEST.findall((ROOT / "docs/recpack.md").read_text(encoding="utf-8"))
    assert named
    missing = [(file, test) for file, test in named if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert missing == []


def test_the_methods_of_the_contract_are_all_there():
    assert [name for name in METHODS if not hasattr(GRU4RecNegSampling(), name)] == []
