"""The estimators: recpack's signature, scikit-learn's contract, and training against a plain softmax."""

from __future__ import annotations

import inspect
import os

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from gru4rec.data.reading import read_log
from gru4rec.device import resolve_device
from gru4rec.errors import DataError, DivergedError, ModelFolderError, ParameterError
from gru4rec.estimator import GRU4RecCrossEntropy, GRU4RecNegSampling
from gru4rec.evaluation import target_positions
from gru4rec.hyperparameters import NAMES, HyperParameters
from gru4rec.model_folder import load_model
from gru4rec.nn.network import Network
from gru4rec.training import Trainer

ESTIMATORS = [GRU4RecNegSampling, GRU4RecCrossEntropy]
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)

# In their order, from the documentation of recpack.algorithms.GRU4RecNegSampling (recpack 0.3).
RECPACK = {
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
    "max_epochs": 5,
    "learning_rate": 0.03,
    "stopping_criterion": "recall",
    "stop_early": False,
    "max_iter_no_change": 5,
    "min_improvement": 0.0,
    "seed": None,
    "save_best_to_file": False,
    "keep_last": False,
    "predict_topK": None,
    "validation_sample_size": None,
}
SAMPLING = {
    "loss_fn", "num_negatives", "negatives", "mask_targets", "sample_alpha", "bpreg", "elu_param", "logq",
    "logq_correction",
}  # fmt: skip
SMALL = {"hidden_size": 6, "num_components": 4, "batch_size": 4, "max_epochs": 2, "seed": 5, "device": "cpu"}

TRAIN = pd.DataFrame(
    {
        "SessionId": np.repeat(np.arange(12), 4),
        "ItemId": [10 * ((session + step * (1 + session % 2)) % 7) for session in range(12) for step in range(4)],
        "Time": np.arange(48),
    }
)
VALIDATION = pd.DataFrame(
    {
        "SessionId": [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6],
        "ItemId": [0, 10, 20, 30, 40, 50, 60, 0, 999, 20, 10, 30],
        "Time": np.arange(12),
    }
)


def bits(estimator):
    return {name: weight.numpy().tobytes() for name, weight in estimator.model_.network.weights.items()}


def figures(estimator):
    """The history without its clock."""
    return [{k: v for k, v in r.items() if k not in {"seconds", "events_per_second"}} for r in estimator.history_]


@pytest.fixture(scope="module")
def trained():
    return GRU4RecNegSampling(**SMALL).fit(TRAIN, VALIDATION)


# --- the signature ---------------------------------------------------------------------------------------------------


@each_estimator
def test_positional_parameters_are_those_of_recpack(estimator):
    signature = inspect.signature(estimator)
    positional = {n: p.default for n, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    left_out = SAMPLING if estimator is GRU4RecCrossEntropy else set()
    assert list(positional.items()) == [(name, value) for name, value in RECPACK.items() if name not in left_out]


@each_estimator
def test_everything_else_is_keyword_only_with_the_default_of_the_hyperparameter(estimator):
    signature = inspect.signature(estimator)
    extras = {n: p.default for n, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    left_out = SAMPLING if estimator is GRU4RecCrossEntropy else set()
    names = set(NAMES) - set(RECPACK) - left_out
    defaults = HyperParameters()
    assert extras == {name: getattr(defaults, name) for name in names} | {"device": "auto", "threads": 1}


def test_defaults_make_the_default_hyperparameters():
    estimator = GRU4RecNegSampling(max_epochs=1, seed=0, device="cpu").fit(TRAIN)
    assert estimator.model_.hyperparameters == HyperParameters()


# --- scikit-learn's contract -----------------------------------------------------------------------------------------


@each_estimator
def test_init_only_stores(estimator):
    names = inspect.signature(estimator).parameters
    values = {name: object() for name in names}
    assert vars(estimator(**values)) == values
    assert estimator(**values).get_params(deep=False) == values


@each_estimator
def test_set_params(estimator):
    changed = estimator()
    assert changed.set_params(hidden_size=7, seed=3) is changed
    assert changed.set_params() is changed
    assert (changed.hidden_size, changed.get_params()["seed"]) == (7, 3)


@each_estimator
@pytest.mark.parametrize(
    ("name", "known"), [("hiden_size", "hidden_size"), ("max_epoch", "max_epochs"), ("predict_topk", "predict_topK")]
)
def test_an_unknown_parameter_names_the_nearest(estimator, name, known):
    with pytest.raises(ParameterError) as error:
        estimator().set_params(**{name: 1})
    assert str(error.value) == f"unknown parameter of {estimator.__name__} {name!r}; did you mean {known!r}?"


def test_a_bad_name_changes_nothing():
    estimator = GRU4RecNegSampling()
    with pytest.raises(ParameterError):
        estimator.set_params(hidden_size=7, hiden_size=8)
    assert estimator.hidden_size == 100


def test_a_clone_has_the_parameters_and_no_model(trained):
    copy = clone(trained)
    assert copy.get_params() == trained.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(TRAIN)


def test_repr_shows_what_differs_from_the_defaults():
    assert (
        repr(GRU4RecNegSampling(hidden_size=7, loss_fn="top1")) == "GRU4RecNegSampling(hidden_size=7, loss_fn='top1')"
    )
    assert repr(GRU4RecCrossEntropy()) == "GRU4RecCrossEntropy()"


@each_estimator
def test_identifier_is_a_call_that_makes_an_equal_one(estimator):
    made = estimator(hidden_size=7, clipnorm=None, stopping_criterion="mrr@5")
    assert made.name == estimator.__name__
    again = eval(made.identifier, {made.name: estimator})
    assert again.get_params() == made.get_params()
    assert again.filename == made.filename


def test_filename_tells_parameters_apart():
    names = {GRU4RecNegSampling().filename, GRU4RecNegSampling(seed=1).filename, GRU4RecCrossEntropy().filename}
    assert len(names) == 3
    assert all(name.isascii() and os.sep not in name for name in names)


USES = {
    "predict": lambda estimator: estimator.predict(TRAIN),
    "recommend": lambda estimator: estimator.recommend(TRAIN),
    "evaluate": lambda estimator: estimator.evaluate(TRAIN),
    "save": lambda estimator: estimator.save(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_estimator_that_is_not_fitted_says_so(use):
    with pytest.raises(NotFittedError):
        use(GRU4RecNegSampling())


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_first_fit_that_failed_leaves_it_not_fitted(monkeypatch, use):
    def diverge(_):
        raise DivergedError("loss became nan")

    monkeypatch.setattr(Trainer, "train_epoch", diverge)
    estimator = GRU4RecNegSampling(**SMALL)
    with pytest.raises(DivergedError):
        estimator.fit(TRAIN)
    with pytest.raises(NotFittedError):
        use(estimator)


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_returns_self_with_what_it_learned():
    estimator = GRU4RecNegSampling(**SMALL)
    assert estimator.fit(TRAIN, VALIDATION) is estimator
    assert (estimator.num_items_, estimator.seed_) == (7, 5)
    assert estimator.model_.items.ids.tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert [record["epoch"] for record in estimator.history_] == [1, 2]
    assert {"loss", "recall@50", "recall@20", "mrr@20", "ndcg@20"} <= estimator.history_[0].keys()
    assert estimator.best_epoch_ in {1, 2}


def test_fit_leaves_parameters_and_data_alone():
    estimator, train, validation = GRU4RecNegSampling(**SMALL), TRAIN.copy(), VALIDATION.copy()
    before = estimator.get_params()
    estimator.fit(train, validation)
    assert estimator.get_params() == before
    pd.testing.assert_frame_equal(train, TRAIN)
    pd.testing.assert_frame_equal(validation, VALIDATION)


def test_sessions_and_dataframes_are_the_same(trained):
    from_sessions = GRU4RecNegSampling(**SMALL).fit(read_log(TRAIN), read_log(VALIDATION))
    assert bits(from_sessions) == bits(trained)
    assert figures(from_sessions) == figures(trained)


def test_items_of_a_wider_vocabulary_that_do_not_occur_are_no_items(trained):
    log = read_log(pd.concat([TRAIN, VALIDATION.assign(SessionId=99)]))
    part = GRU4RecNegSampling(**SMALL).fit(log.select_sessions(log.session_ids != 99), VALIDATION)
    assert part.num_items_ == 7
    assert bits(part) == bits(trained)


@each_estimator
def test_seed_decides_every_bit(estimator):
    noisy = {**SMALL, "dropout": 0.3}
    first, again, other = (estimator(**{**noisy, "seed": seed}).fit(TRAIN, VALIDATION) for seed in (1, 1, 2))
    assert bits(first) == bits(again)
    assert figures(first) == figures(again)
    assert all(map(bytes.__ne__, bits(first).values(), bits(other).values()))


def test_a_second_fit_on_the_same_object_gives_the_same_numbers():
    estimator = GRU4RecNegSampling(**{**SMALL, "dropout": 0.3, "validation_sample_size": 2})
    runs = [(bits(estimator), figures(estimator)) for _ in range(2) if estimator.fit(TRAIN, VALIDATION)]
    assert runs[0] == runs[1]


def test_without_a_seed_one_is_drawn_and_told():
    free = [GRU4RecNegSampling(**{**SMALL, "seed": None}).fit(TRAIN) for _ in range(2)]
    assert free[0].seed_ != free[1].seed_
    repeated = GRU4RecNegSampling(**{**SMALL, "seed": free[0].seed_}).fit(TRAIN)
    assert bits(repeated) == bits(free[0])
    assert free[0].seed is None


def test_validation_events_of_unknown_items_are_left_out(monkeypatch):
    seen = validated_sessions(monkeypatch)
    GRU4RecNegSampling(**SMALL).fit(TRAIN, VALIDATION)
    assert [sessions.session_ids.tolist() for sessions in seen] == [[1, 2, 3, 5]] * 2  # 4 has one known event, 6 one


def validated_sessions(monkeypatch):
    """Return a list that fills with what is validated on."""
    seen, validate = [], Trainer.validate

    def recording(self, sessions, metrics):
        seen.append(sessions)
        return validate(self, sessions, metrics)

    monkeypatch.setattr(Trainer, "validate", recording)
    return seen


@pytest.mark.parametrize(("size", "count"), [(1, 1), (3, 3), (4, 4), (100, 4), (None, 4)])
def test_validation_sample_size_is_in_sessions(monkeypatch, size, count):
    seen = validated_sessions(monkeypatch)
    GRU4RecNegSampling(**SMALL, validation_sample_size=size).fit(TRAIN, VALIDATION)
    first, second = ([*sessions.session_ids] for sessions in seen)
    assert first == second  # one draw per fit
    assert len(set(first)) == count
    assert set(first) <= {1, 2, 3, 5}


def test_the_validation_sample_depends_on_the_seed(monkeypatch):
    seen = validated_sessions(monkeypatch)
    for seed in range(8):
        GRU4RecNegSampling(**{**SMALL, "seed": seed, "max_epochs": 1}, validation_sample_size=1).fit(TRAIN, VALIDATION)
    assert len({int(sessions.session_ids[0]) for sessions in seen}) > 1


@pytest.mark.parametrize("size", [0, -1])
def test_a_validation_sample_holds_at_least_one_session(size):
    with pytest.raises(
        ParameterError, match=f"^validation_sample_size must be a whole number >= 1 or None, got {size}$"
    ):
        GRU4RecNegSampling(**SMALL, validation_sample_size=size).fit(TRAIN, VALIDATION)


@pytest.fixture
def worsening(monkeypatch):
    """Validation whose value falls from epoch to epoch."""
    monkeypatch.setattr(Trainer, "validate", lambda self, _, metrics: dict.fromkeys(metrics, 1 / (1 + self.epoch)))


@pytest.mark.usefixtures("worsening")
@pytest.mark.parametrize(("keep_last", "kept"), [(False, 1), (True, 3)])
def test_keep_last_keeps_the_last_epoch_and_not_the_best(keep_last, kept):
    estimator = GRU4RecNegSampling(**{**SMALL, "max_epochs": 3}, keep_last=keep_last).fit(TRAIN, VALIDATION)
    shorter = GRU4RecNegSampling(**{**SMALL, "max_epochs": kept}).fit(TRAIN)
    assert estimator.best_epoch_ == kept
    assert bits(estimator) == bits(shorter)
    assert estimator.model_.metrics["validation"]["recall@20"] == 1 / (1 + kept)


@pytest.mark.usefixtures("worsening")
def test_stop_early():
    estimator = GRU4RecNegSampling(**{**SMALL, "max_epochs": 9}, stop_early=True, max_iter_no_change=2)
    assert len(estimator.fit(TRAIN, VALIDATION).history_) == 3


def test_the_criterion_may_be_any_metric():
    estimator = GRU4RecNegSampling(**SMALL, stopping_criterion="mrr@3").fit(TRAIN, VALIDATION)
    assert "mrr@3" in estimator.history_[0]


# --- cross-entropy ---------------------------------------------------------------------------------------------------


def test_cross_entropy_is_the_loss_over_all_items():
    """With a learning rate of almost zero the model after the epoch is the model during it."""
    estimator = GRU4RecCrossEntropy(**{**SMALL, "max_epochs": 1, "learning_rate": 1e-12}).fit(TRAIN)
    log, network = read_log(TRAIN), estimator.model_.network
    losses = []
    for first, end in zip(log.offsets[:-1], log.offsets[1:], strict=True):
        items = torch.from_numpy(log.item_index[first:end])
        starts = torch.tensor([True, False, False])
        states, _ = network.forward(items[:-1], starts, network.initial_hidden(1), [1, 1, 1])
        losses.append(torch.nn.functional.cross_entropy(network.scores(states), items[1:].long()))
    assert estimator.history_[0]["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_cross_entropy_is_negative_sampling_with_all_items():
    plain = GRU4RecCrossEntropy(**SMALL).fit(TRAIN, VALIDATION)
    sampled = GRU4RecNegSampling(**SMALL, loss_fn="cross-entropy", num_negatives="all").fit(TRAIN, VALIDATION)
    assert plain.model_.hyperparameters == sampled.model_.hyperparameters
    assert bits(plain) == bits(sampled)


# --- predict, recommend, evaluate ------------------------------------------------------------------------------------


@pytest.fixture
def visits():
    return pd.DataFrame({"SessionId": ["b", "a", "unknown", "b"], "ItemId": [10, 60, 999, 20], "Time": [1, 2, 3, 4]})


@pytest.mark.parametrize(("k", "stored"), [(None, 7), (3, 3), (1, 1), (100, 7)])
def test_predict_stores_the_best_items_of_each_session(trained, visits, k, stored):
    estimator = clone(trained).set_params(predict_topK=k).fit(TRAIN, VALIDATION)
    with pytest.warns(UserWarning, match="made no recommendation for 1 of 3 users"):
        scores = estimator.predict(visits)
    assert isinstance(scores, sparse.csr_matrix)
    assert scores.shape == (3, 7)
    assert np.diff(scores.indptr).tolist() == [stored, stored, 0]  # b, a, unknown
    assert (scores.data != 0).all()


@pytest.mark.filterwarnings("ignore:.*made no recommendation")
def test_predict_ranks_as_recommend_does(trained, visits):
    scores, table = trained.predict(visits).toarray(), trained.recommend(visits, k=7).table
    for row, session in enumerate(["b", "a"]):
        rows = table[table["session"] == session]
        assert trained.model_.items.ids[np.argsort(-scores[row])].tolist() == rows["item"].tolist()
        assert np.ptp(scores[row]) == pytest.approx(np.ptp(rows["score"]), rel=1e-5)


def test_predict_takes_two_sessions_of_one_id(trained, make_sessions):
    same, different = (make_sessions([[10, 20], [60]], session_ids=ids) for ids in (["a", "a"], ["a", "b"]))
    assert (trained.predict(same) != trained.predict(different)).nnz == 0


@pytest.mark.parametrize("k", [0, -1])
def test_predict_keeps_at_least_one_item(trained, visits, k):
    estimator = clone(trained).set_params(predict_topK=k).fit(TRAIN)
    with pytest.raises(ParameterError, match=f"^predict_topK must be a whole number >= 1 or None, got {k}$"):
        estimator.predict(visits)


def test_recommend_and_evaluate_are_those_of_the_model(trained, visits):
    found = trained.recommend(visits, k=2, exclude_seen=True)
    wanted = trained.model_.recommend(read_log(visits), k=2, exclude_seen=True)
    pd.testing.assert_frame_equal(found.table, wanted.table)
    assert trained.evaluate(VALIDATION) == trained.model_.evaluate(read_log(VALIDATION))
    assert trained.evaluate(VALIDATION).num_targets == len(target_positions(read_log(VALIDATION), "all")) - 1


# --- save and load ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*made no recommendation")
def test_save_and_load(trained, visits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = trained.save()
    assert [entry.name for entry in tmp_path.iterdir()] == [str(path)] == [trained.filename]
    loaded = GRU4RecNegSampling(device="cpu").load(path)
    assert loaded.hidden_size == SMALL["hidden_size"]
    assert loaded.num_items_ == 7
    assert bits(loaded) == bits(trained)
    assert (loaded.predict(visits) != trained.predict(visits)).nnz == 0
    assert trained.save() == path  # again


@pytest.mark.parametrize("wanted", [True, False])
def test_save_best_to_file(tmp_path, monkeypatch, wanted):
    monkeypatch.chdir(tmp_path)
    estimator = GRU4RecCrossEntropy(**SMALL, save_best_to_file=wanted).fit(TRAIN, VALIDATION)
    assert [entry.name for entry in tmp_path.iterdir()] == ([estimator.filename] if wanted else [])
    if wanted:
        saved = load_model(tmp_path / estimator.filename)
        assert saved.metrics["validation"]["recall@20"] == estimator.history_[estimator.best_epoch_ - 1]["recall@20"]
        assert (saved.metrics["seed"], saved.metrics["epoch"]) == (5, estimator.best_epoch_)


def test_a_load_that_failed_changes_nothing(tmp_path, visits):
    estimator = GRU4RecNegSampling(**SMALL).fit(TRAIN)
    before = estimator.get_params(), bits(estimator)
    with pytest.raises(ModelFolderError):
        estimator.load(tmp_path)
    assert (estimator.get_params(), bits(estimator)) == before


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "log", [sparse.csr_matrix((2, 3)), np.zeros((2, 3)), [[1, 2]], "train.csv", (TRAIN, TRAIN), None]
)
@pytest.mark.parametrize("place", ["X", "predict"])
def test_logs_of_another_type_are_refused(trained, place, log):
    with pytest.raises(TypeError) as error:
        GRU4RecNegSampling(**SMALL).fit(log) if place == "X" else trained.predict(log)
    assert str(error.value) == (
        f"X must be an InteractionMatrix, Sessions or a DataFrame, got {type(log).__name__}; hint: the order of events "
        "is needed, which a csr matrix does not carry"
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dropout": 1.2}, "dropout must be in [0, 1), got 1.2"),
        ({"hidden_size": 0}, "hidden_size must be a whole number >= 1, got 0"),
        ({"loss_fn": "bpr_max"}, "loss_fn must be one of cross-entropy, top1, top1-max, bpr, bpr-max, got 'bpr_max'"),
        ({"max_epochs": 0}, "max_epochs must be a whole number >= 1, got 0"),
        ({"stopping_criterion": "recal@20"}, "unknown metric 'recal'; did you mean 'recall'?"),
        ({"max_iter_no_change": 0}, "max_iter_no_change must be a whole number >= 1, got 0"),
        ({"min_improvement": -0.1}, "min_improvement must be a number >= 0, got -0.1"),
        ({"stop_early": True}, "stop_early=True needs validation data"),
        ({"threads": 0}, "threads must be a whole number >= 1, got 0"),
        ({"device": "gpu"}, "device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got 'gpu'"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
    ],
    ids=str,
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ParameterError) as error:
        GRU4RecNegSampling(**{**SMALL, **parameters}).fit(TRAIN)
    assert str(error.value) == message


def test_validation_data_of_unknown_items_only_are_refused():
    with pytest.raises(DataError, match="no validation session has two events that the training log knows"):
        GRU4RecNegSampling(**SMALL).fit(TRAIN, VALIDATION.assign(ItemId=999))


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_has_the_estimators_threads_while_it_works(monkeypatch, threads):
    seen = []
    forward = Network.forward
    monkeypatch.setattr(Network, "forward", lambda *args: seen.append(torch.get_num_threads()) or forward(*args))
    torch.set_num_threads(3)
    try:
        estimator = GRU4RecNegSampling(**SMALL, threads=threads).fit(TRAIN)
        after_fit = len(seen)
        estimator.recommend(TRAIN)
        after_recommend = len(seen)
        estimator.predict(TRAIN)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    assert 0 < after_fit < after_recommend < len(seen)
    assert set(seen) == {threads}


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, available, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto") == torch.device(device)


def test_a_named_device_is_taken():
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "meta"])
def test_a_device_that_this_machine_lacks_is_refused(device):
    with pytest.raises(ParameterError, match=f"^device '{device}' cannot be used on this machine"):
        resolve_device(device)
