"""What `evaluate` and `data check` say of how figures were measured, and of logs that would make them doubtful."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from gru4rec.data.reading import read_log
from gru4rec.model import Model
from gru4rec.model_folder import load_model, save_model

DAY = 86_400
KEYS = ["recall@3", "mrr@3", "ndcg@3"]


def write(path, sessions):
    """Write sessions, name -> (start, items), an event a second."""
    rows = [(name, item, start + step) for name, (start, items) in sessions.items() for step, item in enumerate(items)]
    pd.DataFrame(rows, columns=["SessionId", "ItemId", "Time"]).to_csv(path, index=False)
    return path


@pytest.fixture
def desk(tmp_path, make_model):
    """A model of the items 1 .. 5 that always says 5 4 3 2 1, its training log, and two logs to test on."""
    model: Model = make_model(range(1, 6))
    for weight in model.network.weights.values():
        weight.zero_()
    model.network.item_bias.copy_(torch.arange(5.0))
    save_model(model, tmp_path / "model")
    write(tmp_path / "train.csv", {"a": (0, [1, 2, 3]), "b": (DAY, [4, 5, 1])})
    # Of 6 targets 5 3 | 1 9 | 2 8 those are ranked whose items are known: 5 3 | 1 | 2, ranks 1 3 | 5 | 4.
    write(tmp_path / "later.csv", {"x": (2 * DAY, [2, 5, 3]), "y": (3 * DAY, [2, 1, 9]), "z": (3 * DAY, [1, 2, 8])})
    write(tmp_path / "leaking.csv", {"b": (DAY, [4, 5, 1]), "c": (0, [1, 2]), "d": (DAY + 1, [3, 4])})
    return tmp_path


@pytest.fixture
def run(desk, call, monkeypatch):
    """A function: arguments -> stdout and stderr of a command that succeeds in the folder `desk`."""
    monkeypatch.chdir(desk)
    return call


def test_evaluate_tells_intervals_and_figures_with_misses(run):
    result = json.loads(run("evaluate", "model", "later.csv", "--cutoff", 3, "--json").out)
    assert result["metrics"]["recall@3"] == 2 / 4
    assert result["metrics_with_misses"]["recall@3"] == pytest.approx(2 / 6)
    assert (result["num_sessions"], result["num_targets"], result["num_unknown_targets"]) == (3, 4, 2)
    assert list(result["intervals"]) == KEYS
    low, high = result["intervals"]["recall@3"]
    assert (low, high) == (0.0, 1.0)  # three sessions, of which all targets or none are hits
    assert result["warnings"] == []


def test_the_protocol_is_data(run):
    result = json.loads(run("evaluate", "model", "later.csv", "--cutoff", 3, "--cutoff", 5, "--json").out)
    protocol = result["protocol"]
    expected = {
        "steps": "all",
        "candidates": "all items",
        "num_items": 5,
        "cutoffs": [3, 5],
        "ties": "against the model",
        "num_tied": 0,
        "num_sessions": 3,
        "num_targets": 4,
        "num_events": 9,
        "num_unknown_events": 2,
        "share_unknown_events": 2 / 9,
        "num_unknown_targets": 2,
        "share_unknown_targets": 2 / 6,
        "hidden_state": "zero at the start of each session",
        "training_log": None,
    }
    assert {name: protocol[name] for name in expected} == expected
    assert protocol["interval"]["unit"] == "session"
    assert protocol["interval"]["confidence"] == 0.95


def test_the_protocol_is_told(run):
    told = run("evaluate", "model", "later.csv", "--cutoff", 3, "--train", "train.csv")
    header, own, *lines = told.out.splitlines()
    assert header.split() == ["model", *KEYS]
    assert own.split() == ["model", "0.5000", f"{(1 + 1 / 3) / 4:.4f}", f"{(1 + 1 / 2) / 4:.4f}"]
    rows = {line[:20].strip(): line[20:].split() for line in lines}
    interval = ["95 % interval from", "95 % interval to"]
    assert list(rows) == [*interval, "with misses", "popularity", "first-order Markov"]
    assert rows["with misses"] == ["0.3333", f"{(1 + 1 / 3) / 6:.4f}", f"{(1 + 1 / 2) / 6:.4f}"]
    assert rows["95 % interval from"][0] == "0.0000"
    assert rows["95 % interval to"][0] == "1.0000"
    assert told.err.splitlines() == [
        "ranked: the next item of every step, among all 5 items of the model (no sampled metrics), cut off at 3",
        "targets: 4 of 3 sessions; 0 tied, ties count against the model",
        "unknown items: 2 of 9 events (22.2%) left out; with misses: 2 targets (33.3%) that could not be ranked count "
        "as misses",
        "intervals: 95%, percentile bootstrap over sessions, 1,000 resamples",
        "hidden state: zero at the start of each session",
        "training log: 0 of 3 sessions start before its last event, 0 before its last session; 0 session ids are in "
        "both",
        "warning: 2 of 9 test events (22%) have items unknown to the training log: look at the figures with misses; "
        "train on a longer or more recent log, or lower --min-item-support",
    ]


def test_without_a_training_log_leakage_is_not_looked_for(run):
    told = run("evaluate", "model", "leaking.csv")
    assert told.err.splitlines()[-1] == "training log: not given, so leakage was not looked for (--train)"


def test_evaluate_warns_of_leakage(run):
    told = json.loads(run("evaluate", "model", "leaking.csv", "--train", "train.csv", "--json").out)
    assert told["protocol"]["training_log"] == {
        "num_test_sessions": 3,
        "num_test_events": 7,
        "num_interleaved_sessions": 1,  # c
        "num_early_sessions": 3,  # the training log ends 2 s after day 1
        "num_shared_sessions": 1,  # b
        "num_unknown_events": 0,
    }
    assert told["warnings"][0].startswith("1 of 3 test sessions (33%) start before the last training session starts")
    assert told["warnings"][1].startswith("1 session ids are in both logs")
    words = run("evaluate", "model", "leaking.csv", "--train", "train.csv").err
    assert all(f"\nwarning: {warning}\n" in words for warning in told["warnings"])


def test_last_steps_do_not_put_an_earlier_item_in_the_place_of_an_unknown_last_one(run):
    result = json.loads(run("evaluate", "model", "later.csv", "--cutoff", 3, "--steps", "last", "--json").out)
    assert (result["num_targets"], result["num_unknown_targets"]) == (1, 2)
    assert result["metrics"]["mrr@3"] == pytest.approx(1 / 3)  # item 3 of x
    assert result["metrics_with_misses"]["mrr@3"] == pytest.approx(1 / 9)


def test_baselines_rank_the_same_targets_as_the_model(run, desk):
    """Popularity in training: item 1 twice, the others once; so item 3 of x has rank 5."""
    arguments = ["later.csv", "--train", "train.csv", "--steps", "last", "--cutoff", 5, "--json"]
    result = json.loads(run("evaluate", "model", *arguments).out)
    assert result["baselines"]["popularity"]["mrr@5"] == pytest.approx(1 / 5)


def test_the_command_says_what_the_model_says(run, desk):
    result = json.loads(run("evaluate", "model", "later.csv", "--json").out)
    evaluation = load_model(desk / "model").evaluate(read_log(desk / "later.csv"))
    assert result["intervals"] == {key: list(ends) for key, ends in evaluation.intervals.items()}


# --- data ------------------------------------------------------------------------------------------------------------


def test_check_compares_with_a_test_log(run):
    told = json.loads(run("data", "check", "train.csv", "--test", "leaking.csv", "--json").out)
    assert told["overlap"]["num_interleaved_sessions"] == 1
    assert [warning[:30] for warning in told["warnings"]] == [
        "1 of 3 test sessions (33%) sta",
        "1 session ids are in both logs",
    ]
    printed = run("data", "check", "train.csv", "--test", "leaking.csv")
    rows = dict(line.rsplit(maxsplit=1) for line in printed.out.splitlines())
    assert rows["that start before the last training event"] == "3"
    assert rows["session ids in both logs"] == "1"
    assert printed.err.count("warning: ") == 2


def test_check_without_options_trains_and_compares_nothing(run):
    assert set(json.loads(run("data", "check", "train.csv", "--json").out)) == {"summary", "warnings"}


@pytest.fixture
def ordered_and_not(desk):
    """Two logs of the same sessions: items that follow one another on a ring, and the same in random order."""
    random = np.random.default_rng(0)
    starts = random.integers(60, size=500)
    ring = {n: (100 * n, [(start + step) % 60 for step in range(5)]) for n, start in enumerate(starts.tolist())}
    write(desk / "ring.csv", ring)
    write(desk / "bag.csv", {n: (time, random.permutation(items).tolist()) for n, (time, items) in ring.items()})


@pytest.mark.usefixtures("ordered_and_not")
@pytest.mark.parametrize(("log", "matters"), [("ring.csv", True), ("bag.csv", False)])
def test_check_says_whether_order_matters(run, log, matters):
    told = run("data", "check", log, "--order", "--json")
    content = json.loads(told.out)
    assert content["order"]["order_matters"] is matters
    assert content["warnings"] == ([] if matters else [content["order"]["verdict"]])
    assert told.err.splitlines()[0] == "order check: in order, epoch 1/3"


@pytest.mark.usefixtures("ordered_and_not")
def test_check_prints_the_three_models_and_the_verdict(run):
    told = run("data", "check", "bag.csv", "--order")
    table = told.out[told.out.index("model") :].splitlines()
    assert table[0].split() == ["model", "recall@20", "mrr@20"]
    names = [line.rsplit(maxsplit=2)[0].strip() for line in table[1:]]
    interval = ["95 % interval from", "95 % interval to"]
    assert names == ["in order", *interval, "last item only", *interval, "shuffled", *interval]
    assert told.err.splitlines()[-1].startswith("warning: order does not matter in this log: ")
    told = run("data", "check", "ring.csv", "--order")
    assert told.err.splitlines()[-1].startswith("order matters in this log: ")


def test_split_by_last_item_warns_and_split_by_time_does_not(run, desk):
    write(desk / "log.csv", {n: (100 * n, [1, 2, 3, 4, 5]) for n in range(100)})
    told = run("data", "split", "log.csv", "--last-item", "--out", "parts").err
    assert told.startswith("warning: a split by last item leaks through time: ")
    assert "split by time with --last-days or --share" in told
    assert run("data", "split", "log.csv", "--share", 0.2, "--out", "by-time").err == ""
