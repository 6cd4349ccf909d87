"""The command line as a user meets it: what each command writes and prints, and the one line for each bad input."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from importlib.metadata import version

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from gru4rec.cli.main import main
from gru4rec.data.reading import read_log
from gru4rec.model_folder import load_model

SMALL = ["--set", "hidden_size=8", "--set", "num_components=8", "--set", "batch_size=16"]
GOOD = "SessionId,ItemId,Time\n1,5,1\n1,6,2\n2,6,3\n2,5,4\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a log, its parts and a model, all made by the commands."""
    folder = tmp_path_factory.mktemp("shop")
    log, parts = str(folder / "log.csv"), str(folder / "parts")
    main(["data", "sample", log, "--sessions", "150", "--items", "100", "--days", "8", "--seed", "1"])
    main(["data", "split", log, "--out", parts, "--last-days", "2", "--min-item-support", "2"])
    validation, model = f"{parts}/validation.parquet", str(folder / "model")
    main(["fit", f"{parts}/train.parquet", "--validation", validation, "--out", model, "--max-epochs", "2", *SMALL])
    return folder


def tree(folder):
    """Everything below a folder: path -> bytes, None for folders."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.parquet"])
def test_sample_writes_a_log_that_check_reads(call, tmp_path, name):
    path = tmp_path / name
    told = call("data", "sample", path, "--sessions", 20, "--items", 100, "--days", 2)
    assert (told.out, told.err) == (
        "",
        f"wrote {read_log(path).num_events} synthetic events of 20 sessions to {path}\n",
    )
    checked = json.loads(call("data", "check", path, "--json").out)
    assert checked["summary"]["sessions"] == 20
    assert checked["warnings"] == []


def test_sample_takes_a_seed(call, tmp_path):
    for name, seed in (("a.csv", 1), ("b.csv", 1), ("c.csv", 2)):
        call("data", "sample", tmp_path / name, "--sessions", 9, "--items", 100, "--seed", seed)
    first, again, other = ((tmp_path / name).read_text() for name in ("a.csv", "b.csv", "c.csv"))
    assert first == again != other
    assert json.loads(call("data", "check", tmp_path / "a.csv", "--json").out)["summary"]["sessions"] == 9


def test_check_prints_figures_and_warnings(call, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("SessionId,ItemId,Time\n1,5,1\n1,6,1\n2,7,3\n")
    told = call("data", "check", path)
    figures = dict(line.rsplit(maxsplit=1) for line in told.out.splitlines()[1:])
    assert (figures["sessions"], figures["events"], figures["sessions of one event"]) == ("2", "3", "1")
    assert told.err == "warning: 100% of neighbouring events have the same time: is the order real?\n"


def test_check_of_sessions_of_one_event_warns(call, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("SessionId,ItemId,Time\n1,5,1\n2,6,2\n")
    assert "there is nothing to learn; is --session-key the right column?" in call("data", "check", path).err


def test_check_takes_a_time_unit(call, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("SessionId,ItemId,Time\n1,5,0\n1,6,86400000\n")
    told = call("data", "check", path, "--time-unit", "ms", "--json")
    assert json.loads(told.out)["summary"]["span in days"] == 1.0


def test_split_cuts_by_time_at_session_boundaries(shop):
    log, parts = pd.read_csv(shop / "log.csv"), shop / "parts"
    assert sorted(path.name for path in parts.iterdir()) == [
        "test.parquet",
        "train.parquet",
        "train_full.parquet",
        "validation.parquet",
    ]
    starts = log.groupby("SessionId")["Time"].min()
    test = pd.read_parquet(parts / "test.parquet")
    assert set(test["SessionId"]) == set(starts.index[starts > log["Time"].max() - 2 * 86_400])
    assert len(test) == log["SessionId"].isin(test["SessionId"]).sum()
    train_full, train = (pd.read_parquet(parts / f"{name}.parquet") for name in ("train_full", "train"))
    assert set(train_full["SessionId"]).isdisjoint(test["SessionId"])
    assert set(train["SessionId"]) < set(train_full["SessionId"])
    for part in (train_full, train):
        assert part["ItemId"].value_counts().min() >= 2
        assert part["SessionId"].value_counts().min() >= 2


@pytest.mark.parametrize("way", [["--last-days", 1], ["--share", 0.3], ["--last-item"]], ids=str)
def test_split_counts_its_parts(call, shop, tmp_path, way):
    told = call("data", "split", shop / "log.csv", "--out", tmp_path / "parts", *way, "--json")
    rows = json.loads(told.out)
    assert [row["part"] for row in rows] == ["train_full", "test", "train", "validation"]
    for row in rows:
        frame = pd.read_parquet(tmp_path / "parts" / f"{row['part']}.parquet")
        sessions, events = frame["SessionId"].nunique(), len(frame)
        assert row == {"part": row["part"], "sessions": sessions, "events": events, "targets": events - sessions}


def test_split_prints_a_table(call, shop, tmp_path):
    told = call("data", "split", shop / "log.csv", "--out", tmp_path / "parts", "--share", 0.3)
    lines = told.out.splitlines()
    assert lines[0].split() == ["part", "sessions", "events", "targets"]
    assert [line.split()[0] for line in lines[1:]] == ["train_full", "test", "train", "validation"]


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_writes_a_model_and_says_what_it_did(call, shop, tmp_path):
    train, validation = (shop / "parts" / f"{name}.parquet" for name in ("train", "validation"))
    told = call("fit", train, "--validation", validation, "--out", tmp_path / "m", "--max-epochs", 3, *SMALL, "--json")
    result = json.loads(told.out)
    assert [record["epoch"] for record in result["epochs"]] == [1, 2, 3]
    recalls = [record["recall@20"] for record in result["epochs"]]
    assert result["best_epoch"] == recalls.index(max(recalls)) + 1
    assert result["model"] == str(tmp_path / "m")
    notes = [line for line in told.err.splitlines() if line.startswith("epoch ")]
    assert [note.split("  ")[0] for note in notes] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    model = load_model(tmp_path / "m")
    assert model.hyperparameters.hidden_size == 8
    assert model.metrics["epoch"] == result["best_epoch"]
    assert model.metrics["validation"]["recall@20"] == max(recalls)
    assert model.evaluate(read_log(validation)).metrics["recall@20"] == max(recalls)


def test_fit_prints_a_table_of_epochs(call, shop, tmp_path):
    told = call("fit", shop / "parts/train.parquet", "--out", tmp_path / "m", "--max-epochs", 2, *SMALL)
    lines = told.out.splitlines()
    assert lines[0].split() == ["epoch", "loss", "events_per_second"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert told.err.endswith(f"wrote epoch 2 to {tmp_path / 'm'}\n")


def test_the_seed_decides_the_model(call, shop, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit = ["fit", shop / "parts/train.parquet", "--out", tmp_path / name, "--max-epochs", 1, "--seed", seed]
        call(*fit, *SMALL)
    first, again, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "abc")
    assert first == again != other


def test_set_goes_before_the_file_of_parameters(call, shop, tmp_path):
    params = tmp_path / "params.toml"
    params.write_text('hidden_size = 6\nnum_components = 5\nloss_fn = "top1"\nclipnorm = 2.5\n')
    changes = ["hidden_size=7", "loss_fn=cross-entropy", "clipnorm=none", "num_negatives='all'", " dropout = 0.25"]
    assignments = [part for change in changes for part in ("--set", change)]
    fit = ["fit", shop / "parts/train.parquet", "--out", tmp_path / "m", "--max-epochs", 1, "--params", params]
    call(*fit, *assignments)
    found = load_model(tmp_path / "m").hyperparameters
    assert (found.hidden_size, found.num_components, found.dropout) == (7, 5, 0.25)
    assert (found.loss_fn, found.clipnorm, found.num_negatives) == ("cross-entropy", None, "all")


def test_patience_stops_early(call, shop, tmp_path):
    # A learning rate of almost zero improves nothing after the first epoch.
    still = ["--set", "learning_rate=1e-12", "--patience", 2, "--max-epochs", 9, "--metric", "mrr@5"]
    logs = [shop / "parts/train.parquet", "--validation", shop / "parts/validation.parquet"]
    result = json.loads(call("fit", *logs, "--out", tmp_path / "m", *still, *SMALL, "--json").out)
    assert (len(result["epochs"]), result["best_epoch"]) == (3, 1)
    assert "mrr@5" in result["epochs"][0]


def test_validation_events_of_unknown_items_are_counted(call, tmp_path):
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "later.csv").write_text("SessionId,ItemId,Time\n1,5,1\n1,6,2\n1,77,3\n")
    fit = ["fit", tmp_path / "train.csv", "--validation", tmp_path / "later.csv", "--out", tmp_path / "m"]
    told = call(*fit, "--max-epochs", 1).err
    assert "later.csv: left out 1 events with no known item, or alone in their session\n" in told


# --- evaluate --------------------------------------------------------------------------------------------------------


def by_hand(shop, k):
    """Recall of the popularity baseline on the test part: ties count against the target."""
    train, test = (pd.read_parquet(shop / "parts" / f"{name}.parquet") for name in ("train", "test"))
    counts = Counter(train["ItemId"])
    ranks = []
    for _, items in test[test["ItemId"].isin(counts.keys())].groupby("SessionId")["ItemId"]:
        ranks += [sum(count >= counts[target] for count in counts.values()) for target in list(items)[1:]]
    return len(ranks), np.mean(np.array(ranks) <= k), np.mean([(rank <= k) / rank for rank in ranks])


def test_evaluate_with_baselines(call, shop):
    train, test = (shop / "parts" / f"{name}.parquet" for name in ("train", "test"))
    told = call("evaluate", shop / "model", test, "--train", train, "--cutoff", 5, "--cutoff", 10, "--json")
    result = json.loads(told.out)
    keys = ["recall@5", "mrr@5", "ndcg@5", "recall@10", "mrr@10", "ndcg@10"]
    assert list(result["metrics"]) == keys
    assert set(result["baselines"]) == {"popularity", "first-order Markov"}
    num_targets, recall, mrr = by_hand(shop, 5)
    assert result["num_targets"] == num_targets
    popularity = result["baselines"]["popularity"]
    assert (popularity["recall@5"], popularity["mrr@5"]) == (pytest.approx(recall), pytest.approx(mrr))
    known = set(pd.read_parquet(train)["ItemId"])
    assert result["num_unknown_events"] == (~pd.read_parquet(test)["ItemId"].isin(known)).sum()


def test_evaluate_prints_a_table_and_what_was_ranked(call, shop):
    test = shop / "parts/test.parquet"
    told = call("evaluate", shop / "model", test, "--train", shop / "parts/train.parquet", "--steps", "last")
    lines = told.out.splitlines()
    assert lines[0].split() == ["model", "recall@20", "mrr@20", "ndcg@20"]
    assert lines[1].startswith(str(shop / "model"))
    assert [line.split("  ")[0] for line in lines[5:]] == ["popularity", "first-order Markov"]
    known = set(pd.read_parquet(shop / "parts/train.parquet")["ItemId"])
    sessions = pd.read_parquet(test).groupby("SessionId")["ItemId"].agg(list)
    ranked = sum(items[-1] in known and len(known.intersection(items[:-1])) > 0 for items in sessions)
    assert told.err.startswith(f"ranked: the last item of each session, among all {len(known)} items of the model")
    assert f"\ntargets: {ranked} of {ranked} sessions; " in told.err


# --- recommend -------------------------------------------------------------------------------------------------------


@pytest.fixture
def visits(shop, tmp_path):
    """Two sessions the model knows something of, around one it does not."""
    items = pd.read_parquet(shop / "parts/train.parquet")["ItemId"].unique()[:3]
    path = tmp_path / "visits.csv"
    rows = [("z", items[0], 1), ("strange", "other", 2), ("a", items[1], 3), ("a", "other", 4), ("a", items[2], 5)]
    pd.DataFrame(rows, columns=["SessionId", "ItemId", "Time"]).to_csv(path, index=False)
    return path


def test_recommend_prints_csv_json_or_writes_a_file(call, shop, visits, tmp_path):
    command = ["recommend", shop / "model", visits, "--k", 3]
    table = load_model(shop / "model").recommend(read_log(visits), 3, fallback="none").table
    command += ["--fallback", "none"]
    printed = call(*command)
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(printed.out)), table, check_dtype=False)
    records = json.loads(call(*command, "--json").out)
    assert [(row["session"], row["rank"]) for row in records] == [(s, rank) for s in "za" for rank in (1, 2, 3)]
    assert [row["item"] for row in records] == table["item"].tolist()
    assert [row["score"] for row in records] == pytest.approx(table["score"].tolist())
    written = call(*command, "--out", tmp_path / "out.parquet")
    assert written.out == ""
    assert written.err.endswith(f"wrote 6 recommendations to {tmp_path / 'out.parquet'}\n")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), table, check_dtype=False)


def test_recommend_names_what_it_left_out(call, shop, visits):
    for fallback, what in (("popular", "popular items"), ("none", "no recommendation")):
        assert call("recommend", shop / "model", visits, "--k", 1, "--fallback", fallback).err == (
            "left out 2 events whose item the model does not know\n"
            f"{what} for 1 sessions without a known item: strange\n"
        )


def test_recommend_in_parts_is_recommend_at_once(call, shop, tmp_path, monkeypatch):
    log, out = shop / "log.csv", tmp_path / "out.parquet"
    frame = pd.read_csv(log).sort_values("SessionId", kind="stable")
    frame.to_parquet(tmp_path / "log.parquet")
    model = load_model(shop / "model")
    whole = model.recommend(read_log(tmp_path / "log.parquet"), 3).table
    monkeypatch.setattr("gru4rec.data.reading.BATCH_ROWS", 100)
    call("recommend", shop / "model", tmp_path / "log.parquet", "--k", 3, "--out", out)
    assert pa.parquet.ParquetFile(out).metadata.num_row_groups > 3
    found = pd.read_parquet(out)
    by = ["session", "rank"]
    found, whole = (table.sort_values(by, ignore_index=True) for table in (found, whole))
    pd.testing.assert_frame_equal(found.drop(columns="score"), whole.drop(columns="score"))
    np.testing.assert_allclose(found["score"], whole["score"], rtol=1e-5, atol=1e-6)


def test_unknown_sessions_get_the_popular_items(call, shop, visits):
    rows = pd.read_csv(io.StringIO(call("recommend", shop / "model", visits, "--k", 2).out))
    counts = pd.read_parquet(shop / "parts/train.parquet")["ItemId"].value_counts()
    popular = rows[rows["source"] == "popular"]
    assert set(popular["session"]) == {"strange"}
    assert popular["score"].tolist() == sorted(counts, reverse=True)[:2]
    assert [counts[item] for item in popular["item"]] == popular["score"].tolist()


# --- inspect and verify ----------------------------------------------------------------------------------------------


def test_inspect_prints_a_page_or_json(call, shop):
    page = call("inspect", shop / "model").out
    train = pd.read_parquet(shop / "parts/train.parquet")
    for words in (f"events        {len(train)}", "hidden_size             8", "candidates    all items", "validation"):
        assert words in page
    content = json.loads(call("inspect", shop / "model", "--json").out)
    assert content["config"]["training_log"]["num_sessions"] == train["SessionId"].nunique()
    assert content["metrics"] == load_model(shop / "model").metrics
    sizes = {file["name"]: file["bytes"] for file in content["files"]}
    assert sizes == {str(path): len(data) for path, data in tree(shop / "model").items() if data is not None}


def test_verify_passes_and_fails(call, invoke, shop, tmp_path):
    told = call("verify", shop / "model")
    assert [line.split()[:2] for line in told.out.splitlines()[1:]] == [
        *([name, "passed"] for name in ("files", "model", "weights", "support", "examples")),
        ["onnx", "skipped"],
    ]
    damaged = shutil.copytree(shop / "model", tmp_path / "damaged")
    (damaged / "metrics.json").write_text("{}")
    done = invoke("verify", damaged, "--json")
    assert done.code == 1
    assert [check["passed"] for check in json.loads(done.out)] == [False]
    assert done.err.startswith(f"error: {damaged} is not sound: {damaged} is damaged: metrics.json not as written")


def test_fit_names_the_licence_of_the_data(call, shop, tmp_path):
    fit = ["fit", shop / "parts/train.parquet", "--out", tmp_path / "m", "--max-epochs", 1, *SMALL]
    call(*fit, "--data-licence", "CC0")
    assert "| licence | CC0 |" in (tmp_path / "m/README.md").read_text()


def test_recommend_excludes_what_was_seen(call, shop, visits):
    rows = pd.read_csv(io.StringIO(call("recommend", shop / "model", visits, "--k", 1000, "--exclude-seen").out))
    log = pd.read_csv(visits)
    for session, unseen in rows.groupby("session")["item"]:
        seen = set(log.loc[log["SessionId"] == session, "ItemId"])
        assert set(unseen) == set(load_model(shop / "model").items.ids) - seen


# --- the command itself ----------------------------------------------------------------------------------------------


def test_version(call):
    assert call("--version").out.endswith(f", version {version('gru4rec-tune')}\n")


@pytest.mark.parametrize(
    "command", [[], ["data"], ["data", "split"], ["fit"], ["evaluate"], ["recommend"], ["verify"]], ids=str
)
def test_each_command_has_help(call, command):
    usage = call(*command, "--help").out.splitlines()[0]
    assert usage.startswith("Usage: ")
    assert " ".join(["", *command, "[OPTIONS]"]) in usage


def test_an_interrupt_leaves_nothing_half_written(invoke, shop, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gru4rec.training.Trainer.train_epoch", interrupt)
    done = invoke("fit", shop / "parts/train.parquet", "--out", tmp_path / "m", *SMALL)
    assert (done.code, done.err.strip()) == (130, "interrupted")
    assert tree(tmp_path) == {}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(shop, tmp_path, monkeypatch):
    """The working folder of a user who makes mistakes."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    shutil.copy(shop / "parts" / "test.parquet", tmp_path)
    shutil.copytree(shop / "model", tmp_path / "model")
    shutil.copytree(shop / "model", tmp_path / "damaged")
    (tmp_path / "damaged" / "metrics.json").write_text("{}")
    return tmp_path


FILES = {
    "good.csv": GOOD,
    "single.csv": "SessionId,ItemId,Time\n1,5,1\n2,6,2\n3,5,3\n",
    "columns.csv": GOOD.replace("SessionId", "visit"),
    "time.csv": GOOD.replace("2,5,4", "2,5,yesterday"),
    "nan.csv": GOOD.replace("2,5,4", "2,NaN,4"),
    "empty.csv": "",
    "header.csv": "SessionId,ItemId,Time\n",
    "other.csv": GOOD.replace("5", "998").replace("6", "999"),
    "ms.csv": "SessionId,ItemId,Time\n1,5,1396346400000\n1,6,1396346401000\n2,6,1496346400000\n2,5,1496346401000\n",
    "bad.toml": "hidden_size = \n",
    "unknown.toml": "hiden_size = 3\n",
}
READERS = {
    "check": ["data", "check"],
    "split": ["data", "split", "--out", "new", "--share", "0.5"],
    "fit": ["fit", "--out", "new"],
    "validate": ["fit", "good.csv", "--out", "new", "--validation"],
    "evaluate": ["evaluate", "model"],
    "baselines": ["evaluate", "model", "test.parquet", "--train"],
    "recommend": ["recommend", "model"],
}
BAD_LOGS = {
    "columns.csv": "columns.csv has no column 'SessionId' (found: visit, ItemId, Time); "
    "hint: say which it is with --session-key",
    "time.csv": "time.csv: row 5: Time 'yesterday' is not a number or an ISO 8601 time; "
    "hint: write times as seconds (or name the --time-unit) or as 2014-04-01T10:00:00Z",
    "nan.csv": "nan.csv: row 5: ItemId is missing; hint: drop such rows or give them an id",
    "empty.csv": "empty.csv is empty",
    "header.csv": "header.csv has no events",
    "absent.csv": "absent.csv does not exist or is not a file",
    "bad.toml": "bad.toml is not a .csv, .tsv or .parquet file",
}


def assert_refused(invoke, desk, arguments, code):
    """Return the message of a command that must fail with one line, and leave everything as it was."""
    before = tree(desk)
    done = invoke(*arguments)
    assert (done.code, done.out) == (code, "")
    assert tree(desk) == before
    assert done.err.startswith("error: ")
    assert done.err.endswith("\n")
    message = done.err.removeprefix("error: ")[:-1]
    assert "\n" not in message
    return message


@pytest.mark.parametrize("log", BAD_LOGS)
@pytest.mark.parametrize("command", READERS)
def test_a_bad_log_is_named(invoke, desk, command, log):
    assert assert_refused(invoke, desk, [*READERS[command], log], 1) == BAD_LOGS[log]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fit", "--out", "new", "single.csv"],
            "no session of the training log has two events or more (3 sessions); "
            "hint: is --session-key the column of the visit, not of the event?",
        ),
        (
            ["data", "split", "single.csv", "--out", "new", "--share", "0.5"],
            "no session of at least 2 events is left once items with fewer than 5 events are dropped; "
            "before: 2 sessions, 2 events",
        ),
        (
            ["data", "split", "good.csv", "--out", "new", "--last-days", "1"],
            "splitting off the last 1 days leaves no train session (the log spans 3 s)",
        ),
        (
            ["data", "split", "good.csv", "--out", "new", "--share", "0.1"],
            "splitting off the last 0.1 of the time leaves no test session (the log spans 3 s)",
        ),
        (
            ["data", "split", "ms.csv", "--out", "new", "--last-days", "1"],
            "the log spans 1,157,407 days; hint: are its times in ms, us or ns? say so with --time-unit",
        ),
        (
            ["evaluate", "model", "single.csv"],
            "no session has two known events or more, nothing to rank (0 sessions)",
        ),
        (
            ["fit", "--out", "model", "good.csv"],
            "model exists already; hint: choose another folder, nothing there is overwritten",
        ),
        (
            ["data", "split", "good.csv", "--out", "model", "--share", "0.5"],
            "model exists already; hint: choose another folder, nothing there is overwritten",
        ),
        (["data", "sample", "log.txt", "--sessions", "5"], "log.txt must end in .csv, .tsv or .parquet"),
        *[
            (
                [command, folder, "good.csv"],
                "damaged is damaged: metrics.json not as written; hint: take a fresh copy of the folder"
                if folder == "damaged"
                else "absent is not a model folder; hint: it should hold config.json, weights.safetensors, "
                "items.parquet, metrics.json, README.md, SHA256SUMS",
            )
            for command in ("evaluate", "recommend")
            for folder in ("damaged", "absent")
        ],
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_work_that_fails_says_why(invoke, desk, arguments, message):
    assert assert_refused(invoke, desk, arguments, 1) == message


FIT = ["fit", "good.csv", "--out", "new"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*FIT, "--set", "hiden_size=3"], "--set: unknown hyperparameter 'hiden_size'; did you mean 'hidden_size'?"),
        ([*FIT, "--set", "=3"], "--set: unknown hyperparameter ''; known: num_layers, hidden_size, "),
        ([*FIT, "--set", "dropout=1.2"], "--set: dropout must be in [0, 1), got 1.2"),
        ([*FIT, "--set", "dropout=nan"], "--set: dropout must be in [0, 1), got nan"),
        ([*FIT, "--set", "hidden_size=8.0"], "--set: hidden_size must be a whole number >= 1, got 8.0"),
        ([*FIT, "--set", "hidden_size=big"], "--set: hidden_size must be a whole number >= 1, got 'big'"),
        ([*FIT, "--set", "hidden_size="], "--set: hidden_size must be a whole number >= 1, got ''"),
        ([*FIT, "--set", "hidden_size=[8]"], "--set: hidden_size must be a whole number >= 1, got [8]"),
        (
            [*FIT, "--set", "loss_fn=bpr-mx"],
            "--set: loss_fn must be one of cross-entropy, top1, top1-max, bpr, bpr-max",
        ),
        ([*FIT, "--set", "num_negatives=all"], "--set: num_negatives='all' needs loss_fn='cross-entropy', got 'bpr'"),
        ([*FIT, "--params", "unknown.toml"], "unknown.toml: unknown hyperparameter 'hiden_size'; did you mean"),
        ([*FIT, "--params", "bad.toml"], "bad.toml cannot be read: "),
        ([*FIT, "--params", "absent.toml"], "absent.toml cannot be read: "),
        ([*FIT, "--metric", "recal@20"], "unknown metric 'recal'; did you mean 'recall'?"),
        ([*FIT, "--metric", "recall@0"], "metric must look like 'recall@20', got 'recall@0'; known metrics: recall, "),
        ([*FIT, "--max-epochs", "0"], "max_epochs must be a whole number >= 1, got 0"),
        (
            [*FIT, "--validation", "good.csv", "--patience", "0"],
            "max_iter_no_change must be a whole number >= 1, got 0",
        ),
        ([*FIT, "--device", "gpu"], "device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got 'gpu'"),
        ([*FIT, "--device", "meta"], "device 'meta' cannot be used on this machine"),
        ([*FIT, "--seed", "-1"], "seed must be a whole number >= 0, got -1"),
        ([*FIT, "--time-unit", "min"], "time_unit must be one of s, ms, us, ns, got 'min'"),
        ([*FIT, "--item-key", "SessionId"], "session, item and time must be three columns, got SessionId, SessionId, "),
        (["recommend", "model", "good.csv", "--k", "0"], "k must be a whole number >= 1, got 0"),
        (["recommend", "model", "good.csv", "--device", "meta"], "device 'meta' cannot be used on this machine"),
        (["data", "split", "good.csv", "--out", "new", "--last-days", "0"], "days must be > 0, got 0.0"),
        (["data", "split", "good.csv", "--out", "new", "--share", "2"], "share must be between 0 and 1, got 2.0"),
        (["data", "sample", "new.csv", "--sessions", "0"], "sessions must be >= 1, got 0"),
        (["data", "sample", "new.csv", "--items", "10"], "items must be >= 100, got 10"),
        (["data", "sample", "new.csv", "--seed", "-1"], "seed must be >= 0, got -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_parameter_is_named(invoke, desk, arguments, message):
    assert assert_refused(invoke, desk, arguments, 2).startswith(message)


def test_a_bad_assignment_is_not_blamed_on_the_file(invoke, desk):
    (desk / "fine.toml").write_text("hidden_size = 8\n")
    message = assert_refused(invoke, desk, [*FIT, "--params", "fine.toml", "--set", "dropout=2"], 2)
    assert "--set" in message
    assert message.endswith("dropout must be in [0, 1), got 2")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "good.csv", "--out", "good.csv/new", "--max-epochs", "1"],
        ["data", "split", "good.csv", "--out", "good.csv/new", "--last-item", "--min-item-support", "1"],
        ["data", "sample", "good.csv/new.csv", "--sessions", "5"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_place_that_cannot_be_written_is_named(invoke, desk, arguments):
    if arguments[1] == "split":
        (desk / "good.csv").write_text("SessionId,ItemId,Time\n" + "".join(f"1,5,{n}\n1,6,{n}\n" for n in range(4)))
    before = tree(desk)
    done = invoke(*arguments)
    assert done.code == 1
    last_line = done.err.splitlines()[-1]  # after the notes of the work that was done
    assert last_line.startswith("error: ")
    assert "good.csv" in last_line
    assert tree(desk) == before


def test_validation_of_unknown_items_only_says_so(invoke, desk):
    before = tree(desk)
    done = invoke(*FIT, "--validation", "other.csv")
    assert done.code == 1
    assert done.err.startswith("error: no validation session has two events that the training log knows the items of")
    assert "(4 of 4 events have unknown items)" in done.err
    assert tree(desk) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fti"], "No such command 'fti'"),
        (["data", "chek", "good.csv"], "No such command 'chek'"),
        (["fit", "good.csv"], "Missing option '--out'"),
        (["fit"], "Missing argument 'TRAIN'"),
        ([*FIT, "--set", "hidden_size"], "--set needs NAME=VALUE, got 'hidden_size'"),
        ([*FIT, "--max-epochs", "many"], "Invalid value for '--max-epochs': 'many' is not a valid integer"),
        ([*FIT, "--patience", "2"], "--patience needs --validation"),
        ([*FIT, "--threads", "0"], "Invalid value for '--threads'"),
        (["fit", "good.csv", "--out", "good.csv"], "Invalid value for '--out'"),
        (["data", "split", "good.csv", "--out", "new"], "name one way to split: --last-days, --share or --last-item"),
        (
            ["data", "split", "good.csv", "--out", "new", "--last-days", "1", "--last-item"],
            "name one way to split: --last-days, --share or --last-item",
        ),
        (["evaluate", "model", "good.csv", "--cutoff", "0"], "Invalid value for '--cutoff'"),
        (["evaluate", "model", "good.csv", "--steps", "first"], "Invalid value for '--steps'"),
        (["recommend", "model", "good.csv", "--kk", "3"], "No such option"),
        (["data", "check", "model"], "Invalid value for 'LOG'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_named(invoke, desk, arguments, message):
    before = tree(desk)
    done = invoke(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith(f"Error: {message}")
    assert done.err.startswith("Usage: ")
    assert tree(desk) == before


def test_a_missing_extra_says_what_to_install(invoke, monkeypatch):
    def without_ray(*_):
        raise ModuleNotFoundError("No module named 'ray'", name="ray.tune")

    monkeypatch.setattr("gru4rec.cli.main.CommandGroup.get_command", without_ray)
    done = invoke("tune", "run")
    assert (done.code, done.err) == (
        1,
        "error: this command needs ray.tune; hint: pip install 'gru4rec-tune[tune]'\n",
    )


def test_a_bug_is_not_dressed_up(monkeypatch):
    def broken(*_):
        raise ModuleNotFoundError("No module named 'nothing'", name="nothing")

    monkeypatch.setattr("gru4rec.cli.main.CommandGroup.get_command", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["fit"])
