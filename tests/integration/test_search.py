"""Searches on a real Ray: what they write, that they repeat, and that a trial is a plain fit."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pandas as pd
import pytest
import torch

from gru4rec import load_model, read_log, split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.errors import ClusterError, DataError, SearchError
from gru4rec.estimator import GRU4RecNegSampling
from gru4rec.fitting import fit_trainer
from gru4rec.hyperparameters import HyperParameters
from gru4rec.stopping import StoppingRule
from gru4rec.training import Trainer
from tuning import Dimension, SearchData, SearchSpec, Space, load_result, tune
from tuning.checkpoints import Checkpoints
from tuning.search import make_task
from tuning.trainable import GRU4RecTrainable
from tuning.winner import export_trial

SPACE = Space(
    (
        Dimension("loss_fn", "choice", options=("cross-entropy", "bpr-max")),
        Dimension("hidden_size", "int", 8, 24, step=8),
        Dimension("learning_rate", "float", 0.02, 0.3, log=True),
        Dimension("dropout_hidden", "float", 0.0, 0.3),
        Dimension("bpreg", "float", 0.0, 1.0, when={"loss_fn": ("bpr-max",)}),
    ),
    {"embedding": "tied", "num_negatives": 32, "batch_size": 16},
)
SPEC = SearchSpec(
    SPACE, trials=4, max_epochs=3, seed=1, criterion=StoppingRule("recall@20", 2), max_concurrent_trials=1
)

CONFIG = {**SPACE.fixed, "loss_fn": "bpr-max", "momentum": 0.3, "dropout": 0.2, "seed": 3, "trial": 0}


@pytest.fixture(scope="module")
def data():
    log = read_log(generate_log(600, 100, seed=2))
    train_full, test = split_time_share(log, 0.2)
    train, validation = split_time_share(train_full, 0.2)
    return SearchData(train, validation, train_full, test)


@pytest.fixture(scope="module")
def result(ray_local, data, tmp_path_factory):
    return tune(SPEC, tmp_path_factory.mktemp("search") / "run", data)


def curves(result):
    return result.epochs().drop(columns=["seconds", "epoch_seconds", "events_per_second", "elapsed_s", "node"])


def test_every_trial_has_a_record(result):
    assert [record.number for record in result.trials] == [0, 1, 2, 3]
    assert all(record.state in {"finished", "stopped by ASHA", "stopped early"} for record in result.trials)
    assert all(1 <= record.best_epoch <= record.epochs <= 3 for record in result.trials)


def test_every_epoch_is_reported(result):
    table = result.epochs()
    assert len(table) == sum(record.epochs for record in result.trials)
    assert {"recall@20", "mrr@20", "loss", "epoch", "events_per_second"} <= set(table.columns)


def test_the_result_folder_is_complete(result):
    assert {path.name for path in result.path.iterdir()} >= {
        "search.toml", "epochs.ndjson", "trials.parquet", "report.html", "best",
    }  # fmt: skip
    assert load_result(result.path).trials == result.trials


def test_the_best_model_recommends_with_the_log_s_ids(result, data):
    model = load_model(result.best_model)
    table = model.recommend(data.test, k=5).table
    assert set(table["item"]) <= set(data.train_full.items.ids)
    figures = json.loads((result.best_model / "metrics.json").read_text())
    assert figures["test"]["metrics"] == model.evaluate(data.test).metrics
    assert figures["trial"] == result.best.number
    assert set(figures["baselines"]) == {"popularity", "first-order Markov"}


def test_a_trial_is_a_plain_fit(result, data):
    """The same hyperparameters, seed and threads give the same figures after each epoch, bit for bit."""
    table = result.epochs()
    threads = torch.get_num_threads()
    torch.set_num_threads(SPEC.cpus_per_trial)
    try:
        for record in result.trials:
            if record.hyperparameters["loss_fn"] == "bpr-max":
                estimator = GRU4RecNegSampling(
                    **record.hyperparameters, seed=record.seed, max_epochs=record.epochs, device="cpu"
                )
                history = estimator.fit(data.train, data.validation).history_
            else:
                train = data.train.with_own_items()
                trainer = Trainer(HyperParameters(**record.hyperparameters), train, seed=record.seed)
                validation, _ = data.validation.with_items_of(train.items)
                history = fit_trainer(trainer, record.epochs, validation, metrics=["recall@20", "mrr@20"]).epochs
            trial = table[table["trial"] == record.number]
            for key in ("recall@20", "mrr@20", "loss"):
                assert trial[key].tolist() == [epoch[key] for epoch in history]
    finally:
        torch.set_num_threads(threads)


def test_a_search_with_one_worker_repeats(result, data, tmp_path):
    again = tune(SPEC, tmp_path / "again", data)
    pd.testing.assert_frame_equal(curves(again), curves(result))
    without_time = [dataclasses.replace(record, seconds=0.0) for record in again.trials]
    assert without_time == [dataclasses.replace(record, seconds=0.0) for record in result.trials]


def test_without_refit_the_best_model_is_the_trial_s_own(ray_local, data, tmp_path):
    said = []
    result = tune(dataclasses.replace(SPEC, refit=False, trials=2), tmp_path / "run", data, on_stage=said.append)
    best = result.best
    assert said[-1] == f"taking trial {best.number} from the checkpoint of epoch {best.best_epoch}"
    model = load_model(result.best_model)
    assert model.evaluate(data.validation).metrics == best.metrics
    checkpoints = sorted(str(path.relative_to(result.path)) for path in result.path.rglob("*.pt"))
    assert checkpoints == [
        f"checkpoints/trial-{trial.number:05d}/epoch-{trial.best_epoch:05d}.pt" for trial in result.trials
    ]
    shutil.rmtree(result.path / "checkpoints")
    again = export_trial(result, best, tmp_path / "again", data)
    assert (again / "weights.safetensors").read_bytes() == (result.best_model / "weights.safetensors").read_bytes()


def test_progress_is_told(ray_local, data, tmp_path):
    seen, stages = [], []
    spec = dataclasses.replace(SPEC, trials=2, max_epochs=1, max_concurrent_trials="auto")
    tune(spec, tmp_path / "run", data, on_progress=seen.append, on_stage=stages.append)
    assert seen[-1].epochs == 2
    assert seen[-1].states == {"finished": 2}
    assert any("2 trials" in stage for stage in stages)


def test_diverged_trials_never_win(ray_local, data, tmp_path):
    space = Space(
        (Dimension("learning_rate", "float", 0.05, 1e37, log=True),),
        {**SPACE.fixed, "loss_fn": "bpr-max", "clipnorm": None, "optimization_algorithm": "sgd"},
        points=({"learning_rate": 1e37}, {"learning_rate": 0.05}),
    )
    result = tune(dataclasses.replace(SPEC, space=space, trials=2), tmp_path / "run", data)
    assert result.trials[0].state == "diverged"
    assert "loss became" in result.trials[0].error
    assert result.best.number == 1


def test_a_search_in_which_all_diverge_says_why(ray_local, data, tmp_path):
    space = Space((), {**SPACE.fixed, "learning_rate": 1e37, "clipnorm": None, "optimization_algorithm": "sgd"})
    with pytest.raises(SearchError, match="none of 1 trials reported recall@20: loss became"):
        tune(dataclasses.replace(SPEC, space=space, trials=1), tmp_path / "run", data)


def test_a_trial_larger_than_any_node_is_refused_up_front(ray_local, data, tmp_path):
    with pytest.raises(ClusterError, match="a trial needs 999 CPUs and 0 GPUs, the largest node has 2 and 0"):
        tune(dataclasses.replace(SPEC, cpus_per_trial=999), tmp_path / "run", data)


def test_a_validation_log_of_unknown_items_is_refused_and_leaves_nothing(data, tmp_path):
    other = read_log(pd.DataFrame({"SessionId": [1, 1], "ItemId": ["x", "y"], "Time": [1, 2]}))
    with pytest.raises(DataError, match=r"no validation session .* \(2 of 2 events have unknown items\)"):
        tune(SPEC, tmp_path / "run", dataclasses.replace(data, validation=other))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def trial(data, tmp_path):
    """Make the trainable of one trial, as a process of Ray would have it."""
    task = make_task(SPEC, data)

    def make(folder="checkpoints", every=1, keep_best=False, **changes):
        trainable = GRU4RecTrainable.__new__(GRU4RecTrainable)
        trainable.setup({**CONFIG, **changes}, task, Checkpoints(str(tmp_path / folder), every, keep_best))
        return trainable

    return make


def train(trainable, epochs):
    return [trainable.step() for _ in range(epochs)]


def figures(records):
    return [[record[key] for key in ("epoch", "loss", "recall@20", "best")] for record in records]


def test_a_trial_goes_on_from_its_checkpoint_with_the_same_numbers(trial):
    """It reports again what it had reported, from the checkpoint, and then what an undisturbed trial reports."""
    expected = train(trial("undisturbed"), 3)
    first = train(trial(), 2)
    again = train(trial(), 3)
    assert again[0].pop("went_on_from") == 2
    assert all(record.pop("checkpoint_bytes") > 0 for record in first)  # news of the writing, not of the epoch
    assert again[:2] == first
    assert figures(again) == figures(expected)


def test_checkpoints_now_and_then(trial, tmp_path):
    expected = train(trial(every=2), 3)
    assert [path.name for path in (tmp_path / "checkpoints" / "trial-00000").iterdir()] == ["epoch-00002.pt"]
    assert figures(train(trial(every=2), 3)) == figures(expected)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(trial, tmp_path):
    expected = train(trial(), 2)
    last = tmp_path / "checkpoints" / "trial-00000" / "epoch-00002.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    again = train(trial(), 2)
    assert again[0]["went_on_from"] == 1
    assert "trial-00000/epoch-00002.pt cannot be used" in again[0]["problems"][0]
    assert figures(again) == figures(expected)


def test_a_checkpoint_of_another_configuration_is_not_used(trial):
    train(trial(), 2)
    expected = train(trial("undisturbed", learning_rate=0.2), 1)
    again = train(trial(learning_rate=0.2), 1)
    assert "is of other hyperparameters" in again[0]["problems"][0]
    assert figures(again) == figures(expected)


def test_the_checkpoint_of_the_best_epoch_is_kept_when_asked_for(trial, tmp_path):
    records = train(trial(keep_best=True, learning_rate=2.0), 3)
    best = max(records, key=lambda record: (record["recall@20"], -record["epoch"]))["epoch"]
    kept = {path.name for path in (tmp_path / "checkpoints" / "trial-00000").iterdir()}
    assert kept == {"epoch-00002.pt", "epoch-00003.pt", f"epoch-{best:05d}.pt"}


def test_a_storage_that_cannot_be_written_is_told_with_the_epoch_that_was_trained(trial, tmp_path):
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    started = trial()
    assert "storage_problem" in started.step()
    trainable = trial("other")
    (tmp_path / "other").write_text("as well")
    record = trainable.step()
    assert (record["epoch"], record["recall@20"] > 0) == (1, True)
    assert "cannot be written" in record["storage_problem"]


def test_a_reused_actor_begins_anew(trial):
    trainable = trial()
    expected = [trainable.step()["loss"] for _ in range(2)]
    assert trainable.reset_config({**CONFIG, "trial": 1})
    assert [trainable.step()["loss"] for _ in range(2)] == expected
