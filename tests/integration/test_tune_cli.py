"""`gru4rec tune` and `gru4rec cluster`, as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from gru4rec.cli.main import main
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log

SPEC = """
[data]
train = "data/train.parquet"
validation = "data/validation.parquet"
train_full = "data/train_full.parquet"
test = "data/test.parquet"
[search]
trials = 3
max_epochs = 2
[fixed]
loss_fn = "cross-entropy"
embedding = "tied"
num_negatives = 32
[space.hidden_size]
type = "int"
low = 8
high = 16
[space.batch_size]
type = "choice"
options = [8, 16]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tune")
    write_log(generate_log(500, 100, seed=4), path / "log.csv")
    main(["data", "split", str(path / "log.csv"), "--out", str(path / "data"), "--share", "0.2"])
    (path / "search.toml").write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def run(folder, ray_local):
    main(["tune", "run", str(folder / "search.toml"), "--out", str(folder / "run"), "--json"])
    return folder / "run"


def test_check_prints_what_is_resolved(folder, call):
    output = call("tune", "check", folder / "search.toml")
    assert "grace_period = 1" in output.out
    assert "targets of known items" in output.err
    resolved = json.loads(call("tune", "check", folder / "search.toml", "--json").out)
    assert resolved["search"]["trials"] == 3
    assert resolved["space"]["batch_size"]["options"] == [8, 16]


def test_check_says_what_a_search_will_cost(folder, call):
    assert "estimate: 3 trials, about " in call("tune", "check", folder / "search.toml").err
    resolved = json.loads(call("tune", "check", folder / "search.toml", "--json").out)
    assert resolved["estimate"]["epochs_at_most"] == 6
    assert "estimate" not in call("tune", "check", folder / "search.toml", "--no-estimate").err


def test_options_go_before_the_file(folder, run, call, tmp_path):
    options = ["--trials", 2, "--epoch-budget", 50, "--time-budget", "1h", "--confirm", "1x2", "--warm-start", run]
    call("tune", "run", folder / "search.toml", "--out", tmp_path / "run", *options)
    resolved = tomllib.loads((tmp_path / "run/search.toml").read_text())
    assert resolved["search"] | {"trials": 2, "epoch_budget": 50, "time_budget_s": 3600.0} == resolved["search"]
    best = json.loads(call("tune", "results", run, "--json").out)["trials"][0]
    found = json.loads(call("tune", "results", tmp_path / "run", "--json").out)
    first = next(trial for trial in found["trials"] if trial["trial"] == 0)
    assert {name: first[name] for name in ("hidden_size", "batch_size")} == {
        name: best[name] for name in ("hidden_size", "batch_size")
    }
    assert [len(confirmed["metrics"]["recall@20"]) for confirmed in found["confirmed"]] == [2]
    assert "trial with other seeds" in call("tune", "results", tmp_path / "run").out


def test_a_duration_that_is_none(folder, failure, tmp_path):
    code, error = failure("tune", "run", folder / "search.toml", "--out", tmp_path / "run", "--time-budget", "2 days")
    assert code == 2
    assert "'2 days' is no duration, write it as 90s, 15m or 2h" in error


def test_a_warm_start_that_is_no_search(folder, failure, tmp_path):
    arguments = ["--out", tmp_path / "run", "--warm-start", tmp_path]
    code, error = failure("tune", "run", folder / "search.toml", *arguments)
    assert (code, "is not the folder of a search" in error) == (1, True)


def test_results_are_shown_with_test_figures(run, call):
    output = call("tune", "results", run).out
    assert output.splitlines()[0].split()[:4] == ["trial", "recall@20", "mrr@20", "ndcg@20"]
    assert "first-order Markov" in output
    assert "95 % interval from" in output


def test_results_for_machines(run, call):
    content = json.loads(call("tune", "results", run, "--json").out)
    assert [set(row) >= {"trial", "recall@20", "state", "hidden_size"} for row in content["trials"]] == [True] * 3
    assert content["best"]["trial"] == content["trials"][0]["trial"]
    assert json.loads((run / "best/metrics.json").read_text()) == content["best"]


def test_the_report_has_the_winner_s_test_figures_and_is_written_anew(run, call, tmp_path):
    call("tune", "report", run, "--out", tmp_path / "again.html")
    value = json.loads((run / "best/metrics.json").read_text())["test"]["metrics"]["recall@20"]
    for page in (run / "report.html", tmp_path / "again.html"):
        assert f"<h1>recall@20 {value:.4f} on the test log, " in page.read_text()


def test_the_best_model_recommends(run, folder, call):
    output = call("recommend", run / "best", folder / "data/test.parquet", "--k", 2)
    assert output.out.splitlines()[0] == "session,rank,item,score,source"
    assert output.out.splitlines()[1].split(",")[2].startswith("item-")


def test_any_trial_can_be_exported(run, folder, call, tmp_path):
    call("tune", "export", run, "--trial", 1, "--out", tmp_path / "model")
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert metrics["trial"] == 1
    again = json.loads(call("evaluate", tmp_path / "model", folder / "data/test.parquet", "--json").out)
    assert again["metrics"] == metrics["test"]["metrics"]


def test_the_best_export_is_the_best_model_once_more(run, call, tmp_path):
    call("tune", "export", run, "--out", tmp_path / "model")
    assert (tmp_path / "model/weights.safetensors").read_bytes() == (run / "best/weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("edit", "code", "message"),
    [
        (("trials = 3", "trails = 3"), 2, "unknown key 'trails'; did you mean 'trials'? in [search]"),
        (("low = 8", "low = 80"), 2, "error: search.toml: space.hidden_size: low must be <= high, got low=80, high=16"),
        (("[fixed]", "[stopping]\ngrace_period = 3\n[fixed]"), 2, "must be <= search.max_epochs (2), got 3"),
        (("[fixed]", "[stopping]\nmetric = 'hits@20'\n[fixed]"), 2, "stopping: unknown metric 'hits'"),
        (("data/train.parquet", "data/none.parquet"), 1, "none.parquet does not exist or is not a file"),
        (("data/train.parquet", "search.toml"), 1, "search.toml is not a .csv, .tsv or .parquet file"),
    ],
)  # fmt: skip
def test_bad_specifications(folder, failure, edit, code, message, tmp_path):
    text = SPEC.replace("data/", f"{folder}/data/")
    (tmp_path / "search.toml").write_text(text.replace(edit[0].replace("data/", f"{folder}/data/"), edit[1]))
    found, error = failure("tune", "run", tmp_path / "search.toml", "--out", tmp_path / "run")
    assert found == code
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_another_search(folder, run, failure):
    before = sorted(path.name for path in run.iterdir())
    code, error = failure("tune", "run", folder / "search.toml", "--out", run)
    assert (code, error.count("\n")) == (1, 1)
    assert "holds another search; hint: choose another --out" in error
    assert sorted(path.name for path in run.iterdir()) == before


def test_an_unreachable_cluster(folder, tmp_path):
    """In a process of its own: this one has a Ray already."""
    command = [sys.executable, "-c", "from gru4rec.cli.main import main; main()"]
    arguments = ["tune", "run", folder / "search.toml", "--out", tmp_path / "run", "--address", "127.0.0.1:1"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("error: no Ray cluster answers at 127.0.0.1:1: ")
    assert not (tmp_path / "run").exists()


def test_an_unreadable_log_leaves_nothing(folder, failure, tmp_path):
    (tmp_path / "bad.csv").write_text("SessionId,ItemId,Time\n1,2,yesterday\n")
    (tmp_path / "search.toml").write_text(
        SPEC.replace("data/train.parquet", "bad.csv").replace("data/", f"{folder}/data/")
    )
    code, error = failure("tune", "run", tmp_path / "search.toml", "--out", tmp_path / "run")
    assert code == 1
    assert error.startswith("error: bad.csv: row 2: Time 'yesterday' is not a number or an ISO 8601 time")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_search(failure, tmp_path):
    code, error = failure("tune", "results", tmp_path)
    assert (code, error) == (1, f"error: {tmp_path} is not the folder of a search: it has no search.toml\n")


def test_doctor_checks_this_machine(call, tmp_path):
    rows = json.loads(call("cluster", "doctor", "--storage", tmp_path, "--json").out)
    found = {row["name"]: row for row in rows}
    assert found["ray"]["passed"]
    assert str(tmp_path) in found["storage"]["detail"]


def test_doctor_says_what_is_wrong(failure, tmp_path):
    tmp_path.joinpath("file").write_text("")
    code, error = failure("cluster", "doctor", "--storage", tmp_path / "file" / "inside")
    assert code == 3
    assert "1 of" in error
    assert "storage" in error
