"""search.toml: read, checked, written out again."""

from __future__ import annotations

import pytest

from gru4rec.data.reading import LogFormat
from gru4rec.errors import SpecificationError
from gru4rec.stopping import StoppingRule
from tuning.space import PRESETS, Dimension, Space
from tuning.spec import DataSpec, SearchSpec, read_spec, render_spec

FULL = """
[data]
train = "a/train.parquet"
validation = "/b/valid.csv"
test = "test.tsv"
session_key = "s"
time_unit = "ms"

[search]
trials = 7
max_epochs = 9
seed = 3
max_concurrent_trials = 2
cpus_per_trial = 2
gpus_per_trial = 0.5
time_budget_s = 60
refit = false

[stopping]
metric = "mrr@10"
max_iter_no_change = 4
min_improvement = 0.001
grace_period = 2
reduction_factor = 4

[fixed]
loss_fn = "bpr-max"
clipnorm = "none"

[space.bpreg]
type = "float"
low = 0
high = 2.0
when = { loss_fn = ["bpr-max"], embedding = ["tied"] }

[space.embedding]
type = "choice"
options = ["tied", "separate"]

[space.hidden_size]
type = "int"
low = 32
high = 128
log = true

[[points]]
hidden_size = 64
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "search.toml"
        path.write_text(text)
        return path

    return written


def problems_of(path):
    with pytest.raises(SpecificationError) as caught:
        read_spec(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_key_is_read(write, tmp_path):
    assert read_spec(write(FULL)) == SearchSpec(
        space=Space(
            (
                Dimension("embedding", "choice", options=("tied", "separate")),
                Dimension("bpreg", "float", 0, 2.0, when={"loss_fn": ("bpr-max",), "embedding": ("tied",)}),
                Dimension("hidden_size", "int", 32, 128, log=True),
            ),
            {"loss_fn": "bpr-max", "clipnorm": None},
            ({"hidden_size": 64},),
        ),
        data=DataSpec(
            tmp_path / "a/train.parquet",
            tmp_path.joinpath("/b/valid.csv"),
            None,
            tmp_path / "test.tsv",
            LogFormat("s", "ItemId", "Time", "ms"),
        ),
        trials=7,
        max_epochs=9,
        seed=3,
        criterion=StoppingRule("mrr@10", 4, 0.001),
        grace_period=2,
        reduction_factor=4,
        max_concurrent_trials=2,
        cpus_per_trial=2,
        gpus_per_trial=0.5,
        time_budget_s=60.0,
        refit=False,
    )


def test_an_empty_file_means_the_defaults(write):
    assert read_spec(write("")) == SearchSpec(PRESETS["full"])


@pytest.mark.parametrize("text", ["", FULL, '[space]\npreset = "quick"\n', "[fixed]\nhidden_size = 8\n"])
def test_what_is_written_out_reads_as_the_same(write, text):
    once = render_spec(read_spec(write(text)))
    assert render_spec(read_spec(write(once))) == once


def test_a_preset_can_be_changed(write):
    text = '[space]\npreset = "quick"\n[space.hidden_size]\ntype = "int"\nlow = 8\nhigh = 16\n[fixed]\nmomentum = 0.5\n'
    space = read_spec(write(text)).space
    sizes = [dimension for dimension in space.dimensions if dimension.name == "hidden_size"]
    assert sizes == [Dimension("hidden_size", "int", 8, 16)]
    assert space.fixed["momentum"] == 0.5
    assert "momentum" not in {dimension.name for dimension in space.dimensions}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[search]\ntrails = 3\n", "unknown key 'trails'; did you mean 'trials'? in [search]"),
        ("[serach]\ntrials = 3\n", "unknown key 'serach'; did you mean 'search'?"),
        ("search = 3\n", "search must be a table, got 3"),
        ("[search]\ntrials = 0\n", "search.trials must be a whole number >= 1, got 0"),
        ("[search]\ntrials = true\n", "search.trials must be a whole number >= 1, got True"),
        (
            '[search]\nmax_concurrent_trials = "many"\n',
            "search.max_concurrent_trials must be a whole number >= 1 or 'auto', got 'many'",
        ),
        ("[search]\ngpus_per_trial = -1\n", "search.gpus_per_trial must be a number >= 0, got -1"),
        ('[search]\nrefit = "yes"\n', "search.refit must be true or false, got 'yes'"),
        (
            "[search]\nmax_epochs = 4\n[stopping]\ngrace_period = 5\n",
            "stopping.grace_period must be <= search.max_epochs (4), got 5",
        ),
        ('[stopping]\nmetric = "recal@20"\n', "stopping: unknown metric 'recal'; did you mean 'recall'?"),
        ('[stopping]\nmetric = "hits"\n', "stopping: metric must look like 'recall@20', got 'hits'"),
        ("[data]\ntest = 't.csv'\n", "data.train is missing: name a .csv, .tsv or .parquet file"),
        (
            "[data]\ntrain = 't.csv'\nvalidation = 'v.csv'\ntime_unit = 'h'\n",
            "data: time_unit must be one of s, ms, us, ns, got 'h'",
        ),
        ('[space]\npreset = "quik"\n', "unknown preset 'quik'; did you mean 'quick'? in [space]"),
        (
            "[space.learning_rat]\ntype = 'float'\n",
            "unknown hyperparameter 'learning_rat'; did you mean 'learning_rate'? in [space]",
        ),
        ("[fixed]\nhidden = 3\n", "unknown hyperparameter 'hidden'; did you mean 'hidden_size'? in [fixed]"),
        ("[fixed]\nhidden_size = 0\n", "fixed: hidden_size must be a whole number >= 1, got 0"),
        ("[space]\nhidden_size = 3\n", "space.hidden_size must be a table with a type, got 3"),
        ("[space.momentum]\ntype = 'real'\n", "space.momentum.type must be float, int or choice, got 'real'"),
        (
            "[space.momentum]\ntype = 'float'\nlow = 0.5\nhigh = 0.1\n",
            "space.momentum: low must be <= high, got low=0.5, high=0.1",
        ),
        ("[space.momentum]\ntype = 'float'\nlow = 0.5\n", "space.momentum.high must be a number, got None"),
        (
            "[space.momentum]\ntype = 'float'\nlow = 0.5\nhigh = 1.5\n",
            "space.momentum: 1.5 is not allowed, must be in [0, 1)",
        ),
        (
            "[space.learning_rate]\ntype = 'float'\nlow = 0\nhigh = 1\nlog = true\n",
            "space.learning_rate: log=true needs low > 0 and no step, got low=0, step=None",
        ),
        (
            "[space.batch_size]\ntype = 'int'\nlow = 1\nhigh = 2.5\n",
            "space.batch_size: low, high and step of an int must be whole numbers",
        ),
        (
            "[space.batch_size]\ntype = 'int'\nlow = 1\nhigh = 9\nstep = 0\n",
            "space.batch_size.step must be a number > 0, got 0",
        ),
        (
            "[space.loss_fn]\ntype = 'choice'\noptions = ['bpr', 'hinge']\n",
            "space.loss_fn: 'hinge' is not allowed, must be one of cross-entropy, top1, top1-max, bpr, bpr-max",
        ),
        ("[space.loss_fn]\ntype = 'choice'\noptions = ['bpr']\n", "space.loss_fn.options must be a list of two values"),
        (
            "[space.bpreg]\ntype = 'float'\nlow = 0\nhigh = 1\nwhen = { loss_fn = 'bpr-max' }\n",
            "space.bpreg.when must be a table of NAME = [VALUES]",
        ),
        (
            "[space.bpreg]\ntype = 'float'\nlow = 0\nhigh = 1\nwhen = { loss_fn = ['bpr-max'] }\n",
            "'when' of 'bpreg' can never be decided: loss_fn is neither searched nor fixed",
        ),
        (
            "[fixed]\nmomentum = 0.1\n[space.momentum]\ntype = 'float'\nlow = 0\nhigh = 0.5\n",
            "momentum is both in [fixed] and in [space]",
        ),
        (
            "[space.bpreg]\ntype = 'float'\nlow = 0\nhi = 1\nhigh = 1\n",
            "unknown key 'hi'; did you mean 'high'? in [space.bpreg]",
        ),
        (
            "[fixed]\nnum_negatives = 'all'\n[space.loss_fn]\ntype = 'choice'\noptions = ['cross-entropy', 'bpr']\n",
            "space: a point of it is not valid: num_negatives='all' needs loss_fn='cross-entropy', got 'bpr'",
        ),
        ("points = 3\n", "points must be tables, written [[points]]"),
        ("[[points]]\nlr = 1\n", "unknown hyperparameter 'lr'"),
    ],
)  # fmt: skip
def test_bad_keys_and_values(write, text, problem):
    message = problems_of(write(text))
    assert problem in message
    assert message.startswith("search.toml: ")


def test_all_problems_are_reported_together(write):
    message = problems_of(write("[search]\ntrials = 0\nseed = -1\n[stopping]\nmetrics = 'x'\n"))
    assert message.splitlines() == [
        "search.toml: 3 problems",
        "  search.trials must be a whole number >= 1, got 0",
        "  search.seed must be a whole number >= 0, got -1",
        "  unknown key 'metrics'; did you mean 'metric'? in [stopping]",
    ]


def test_a_file_that_is_no_toml(write):
    assert "search.toml cannot be read" in problems_of(write("trials: 3"))


def test_a_missing_file(tmp_path):
    assert "none.toml cannot be read" in problems_of(tmp_path / "none.toml")
