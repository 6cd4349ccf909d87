"""search.toml: read, checked, written out again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data.reading import LogFormat
from gru4rec.errors import SpecificationError
from gru4rec.stopping import StoppingRule
from tuning.presets import PRESETS
from tuning.space import Dimension, RandomTrial, Space
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
epoch_budget = 40
until = "mrr@10=0.3"
objectives = ["recall@20", "parameters"]
validation_sample_size = 500
confirm = "2x3"
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
        epoch_budget=40,
        until="mrr@10=0.3",
        objectives=("recall@20", "parameters"),
        validation_sample_size=500,
        confirm="2x3",
        refit=False,
    )


def test_an_empty_file_means_the_defaults(write):
    assert read_spec(write("")) == SearchSpec(PRESETS["full"])


@pytest.mark.parametrize("text", ["", FULL, '[space]\npreset = "quick"\n', "[fixed]\nhidden_size = 8\n"])
def test_what_is_written_out_reads_as_the_same(write, text):
    once = render_spec(read_spec(write(text)))
    assert render_spec(read_spec(write(once))) == once


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_written_out_and_read_back(write, name):
    spec = read_spec(write(f'[space]\npreset = "{name}"\n'))
    again = read_spec(write(render_spec(spec)))
    assert again == replace(spec, space=replace(spec.space, points=tuple(spec.space.fitted_points())))


numbers = st.floats(0.01, 0.9, allow_subnormal=False)
losses = st.lists(st.sampled_from(["bpr", "bpr-max", "top1"]), min_size=2, unique=True)


@settings(deadline=None, max_examples=50)
@given(
    losses=losses,
    ends=st.tuples(numbers, numbers).map(sorted),
    log=st.booleans(),
    sizes=st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(1, 9)),
    trials=st.integers(1, 500),
    epochs=st.integers(1, 40),
    budget=st.none() | st.integers(1, 99),
    target=st.none() | numbers,
    patience=st.integers(1, 5),
)
def test_specification_to_file_to_specification_is_the_identity(
    tmp_path_factory, losses, ends, log, sizes, trials, epochs, budget, target, patience
):
    low, width, step = sizes
    spec = SearchSpec(
        Space(
            (
                Dimension("loss_fn", "choice", options=tuple(losses)),
                Dimension("learning_rate", "float", *ends, log=log, when={"loss_fn": (losses[0],)}),
                Dimension("learning_rate", "float", 0.5, 2.0, when={"loss_fn": tuple(losses[1:])}),
                Dimension("hidden_size", "int", low, low + width, step=step),
            ),
            {"clipnorm": None, "embedding": "none"},
            ({"loss_fn": losses[0], "learning_rate": ends[0]},),
        ),
        trials=trials,
        max_epochs=epochs,
        epoch_budget=budget,
        until=None if target is None else f"mrr@20={target}",
        criterion=StoppingRule("recall@10", patience, ends[0]),
    )
    path = tmp_path_factory.mktemp("spec") / "search.toml"
    path.write_text(render_spec(spec))
    points = tuple(spec.space.fitted_points())
    assert read_spec(path) == replace(spec, space=replace(spec.space, points=points))


def test_a_function_is_a_space(write, tmp_path, monkeypatch):
    (tmp_path / "my_space.py").write_text(
        "def suggest(trial):\n    return {'learning_rate': trial.suggest_float('rate', 0.01, 0.1), 'loss_fn': 'bpr'}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = read_spec(write("[space]\nfunction = 'my_space:suggest'\n[fixed]\nbatch_size = 32\n"))
    point = spec.space.suggest(RandomTrial(0))
    assert (set(point), point["batch_size"]) == ({"learning_rate", "loss_fn", "batch_size"}, 32)
    assert read_spec(write(render_spec(spec))) == spec
    import my_space

    assert SearchSpec(my_space.suggest).space == replace(spec.space, fixed={})


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
        ("[search]\nepoch_budget = 0\n", "search.epoch_budget must be a whole number >= 1 or None, got 0"),
        ('[search]\nuntil = "hits=1"\n', "such as 'recall@20=0.70', got 'hits=1': metric must look like 'recall@20'"),
        ('[search]\nuntil = "recall@20"\n', "must be METRIC=VALUE such as 'recall@20=0.70', got 'recall@20'"),
        ('[search]\nconfirm = "3"\n', "search.confirm must be TRIALSxSEEDS such as '3x3', got '3'"),
        ('[search]\nconfirm = "0x3"\n', "search.confirm must be TRIALSxSEEDS such as '3x3', got '0x3'"),
        ("[search]\nobjectives = 'mrr@20'\n", "search.objectives must be a list of texts, got 'mrr@20'"),
        (
            "[search]\nobjectives = ['size']\n",
            "search.objectives must be metrics, or of parameters, recommend_ms: metric must look like 'recall@20'",
        ),
        (
            "[search]\nobjectives = ['recall@20']\n",
            "search.objectives must be others than stopping.metric, each once, got ['recall@20']",
        ),
        (
            "[space]\npreset = 'quick'\nfunction = 'a:b'\n",
            "space.preset='quick' and space.function='a:b' exclude each other",
        ),
        ("[space]\nfunction = 'nowhere:b'\n", "the function 'nowhere:b' of the space cannot be imported"),
        (
            "[space]\nfunction = 'math:pi'\n[space.bpreg]\ntype = 'float'\nlow = 0\nhigh = 1\n",
            "space.function excludes ranges beside it",
        ),
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
            "space.bpreg.when must be a table of NAME = [PLAIN VALUES]",
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


# --- files that are damaged on purpose -------------------------------------------------------------------------------

RANGE = '[space]\nlearning_rate = {type = "float", low = %s, high = %s, step = %s}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a." * 10**5 + "a = 1", "cannot be read: a key has more than 30 parts"),  # tomllib would take minutes
        ("[" + '"." . ' * 40 + "a]", "cannot be read: a key has more than 30 parts"),
        ("a = " + "[" * 31 + "]" * 31, "cannot be read: it is nested more than 30 levels deep"),
        ("a = " + "[" * 10**5, "cannot be read: "),
        ("#" * 2**20 + "\n", "cannot be read: it has more than 1,048,576 bytes"),
        ("a = 1" + "0" * 5000, "cannot be read: Exceeds the limit"),
        (f"[search]\ntrials = 1{'0' * 400}", "search.trials must be a whole number from 1 to 9223372036854775807"),
        (f"[search]\ngpus_per_trial = 1{'0' * 400}", "search.gpus_per_trial must be a number >= 0"),
        (f"[fixed]\ndropout = 1{'0' * 400}", "fixed: dropout must be in [0, 1)"),
        ('[search]\nconfirm = "\u00b2x3"', "search.confirm must be TRIALSxSEEDS"),  # a digit that int() refuses
        ('[search]\nuntil = "recall@20=nan"', "search.until must be METRIC=VALUE"),
        ("[space]\nbptt = {type = [1]}", "space.bptt.type must be float, int or choice, got [1]"),
        ("[space]\nbptt = {type = {}}", "space.bptt.type must be float, int or choice, got {}"),
        (RANGE % ("nan", 1, 1), "space.learning_rate.low must be a number, got nan"),
        (RANGE % (0.1, 1, "inf"), "space.learning_rate.step must be a number > 0, got inf"),
        (RANGE % (0.1, 1, "1e-300"), "space.learning_rate: step=1e-300 is too small"),
        ("[[points]]\nlearning_rate = [1]", "points 1: learning_rate must be a number, text, true or false, got [1]"),
        ("[[points]]\nbptt = 2020-01-01", "points 1: bptt must be a number, text, true or false"),
        (
            '[space]\nbptt = {type = "int", low = 1, high = 2, when = {loss_fn = [[1]]}}',
            "space.bptt.when must be a table of NAME = [PLAIN VALUES]",
        ),
        ('[space]\nfunction = ".a:b"', "the function '.a:b' of the space cannot be imported"),
        ('[space]\nfunction = "math:sqrt"', "space: no point can be drawn from it: TypeError"),
        ('[space]\nofficial = "\\u0000"', "space.official: "),
    ],
)
def test_what_is_written_to_do_harm_is_a_problem_like_others(write, text, problem):
    with pytest.raises(SpecificationError) as error:
        read_spec(write(text))
    assert problem in str(error.value)
    assert len(str(error.value)) < 2000


def test_of_very_many_problems_the_first_are_named(write):
    with pytest.raises(SpecificationError) as error:
        read_spec(write("".join(f"a{number} = 1\n" for number in range(1000))))
    lines = str(error.value).splitlines()
    assert lines[0] == "search.toml: 1000 problems"
    assert (len(lines), lines[-1].strip()) == (22, "and 980 more")


def test_a_function_is_not_called_unless_points_are_drawn(write, tmp_path, monkeypatch):
    (tmp_path / "touching.py").write_text("from pathlib import Path\nPath(__file__).with_name('marker').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write('[space]\nfunction = "touching:space"')
    read_spec(path, try_out=False)
    assert not (tmp_path / "marker").exists()
    with pytest.raises(SpecificationError, match="cannot be imported"):
        read_spec(path)
    assert (tmp_path / "marker").exists()
