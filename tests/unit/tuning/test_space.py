"""Search spaces: conditions, presets, known-good points."""

from __future__ import annotations

import inspect

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.errors import ParameterError
from gru4rec.estimator import GRU4RecNegSampling
from gru4rec.hyperparameters import NAMES, HyperParameters
from tuning.presets import KNOWN_GOOD, PRESETS
from tuning.space import Dimension, FunctionSpace, RandomTrial, Space, function_space, sort_dimensions

REQUIRED = {
    "loss_fn", "num_layers", "num_negatives", "learning_rate", "hidden_size", "num_components", "dropout_embedding",
    "dropout_hidden", "batch_size", "sample_alpha",
}  # fmt: skip
ONLY_FOR = {"bpreg": "bpr-max", "elu_param": "bpr-max", "logq": "cross-entropy"}


def sample(space, seed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return space.suggest(study.ask())


@pytest.mark.parametrize("name", PRESETS)
def test_every_sampled_point_is_valid(name):
    for seed in range(100):
        point = sample(PRESETS[name], seed)
        assert HyperParameters.from_dict(point).to_dict().items() >= point.items()


def test_the_full_preset_searches_what_matters():
    assert {dimension.name for dimension in PRESETS["full"].dimensions} >= REQUIRED


@pytest.mark.parametrize("name", ["full", "quick"])
def test_parameters_of_one_loss_exist_for_that_loss_only(name):
    points = [sample(PRESETS[name], seed) for seed in range(100)]
    for parameter, loss in ONLY_FOR.items():
        assert all((parameter in point) == (point["loss_fn"] == loss) for point in points)
        assert any(parameter in point for point in points)


def test_num_components_exists_for_separate_tables_only():
    points = [sample(PRESETS["full"], seed) for seed in range(60)]
    assert all(("num_components" in point) == (point["embedding"] == "separate") for point in points)


def test_the_recpack_preset_has_the_contract_s_parameters_only():
    contract = set(list(inspect.signature(GRU4RecNegSampling.__init__).parameters)[1:14]) | {"bpreg"}
    assert {dimension.name for dimension in PRESETS["recpack"].dimensions} <= contract


def test_ranges_that_depend_on_the_optimizer():
    points = [sample(PRESETS["recpack"], seed) for seed in range(100)]
    rates = {
        name: [point["learning_rate"] for point in points if point["optimization_algorithm"] == name]
        for name in ("adagrad", "sgd")
    }
    assert max(rates["adagrad"]) <= 0.3 < max(rates["sgd"])
    assert all({"learning_rate", "momentum"} <= set(point) for point in points)


@pytest.mark.parametrize("name", PRESETS)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), num_items=st.integers(1, 3000))
def test_every_point_of_every_preset_is_valid(name, seed, num_items):
    space = PRESETS[name].for_catalogue(num_items)
    point = space.suggest(RandomTrial(seed))
    assert HyperParameters.from_dict(point).num_negatives <= num_items
    for dimension in space.dimensions:
        if dimension.active(point) and dimension.kind != "choice":
            assert dimension.low <= point[dimension.name] <= dimension.high


def test_a_sampled_value_stays_in_its_range():
    space = Space((Dimension("hidden_size", "int", 64, 160, step=32), Dimension("learning_rate", "float", 0.01, 0.3)))
    for seed in range(50):
        point = sample(space, seed)
        assert point["hidden_size"] in {64, 96, 128, 160}
        assert 0.01 <= point["learning_rate"] <= 0.3


def test_constants_are_part_of_every_point():
    assert sample(Space((), {"batch_size": 32}), 0) == {"batch_size": 32}


@pytest.mark.parametrize("point", KNOWN_GOOD)
def test_known_good_points_are_valid(point):
    assert set(point) <= set(NAMES)
    HyperParameters.from_dict(dict(point))


def test_points_are_brought_into_the_ranges():
    space = Space(
        (
            Dimension("loss_fn", "choice", options=("bpr-max", "bpr")),
            Dimension("hidden_size", "int", 64, 160, step=32),
            Dimension("bpreg", "float", 0.0, 2.0, step=0.5, when={"loss_fn": ("bpr-max",)}),
        ),
        points=(
            {"loss_fn": "bpr-max", "hidden_size": 224, "bpreg": 1.95, "learning_rate": 0.1},
            {"loss_fn": "bpr", "hidden_size": 100, "bpreg": 1.0},
            {"loss_fn": "cross-entropy", "hidden_size": 100},
        ),
    )
    assert space.fitted_points() == [
        {"loss_fn": "bpr-max", "hidden_size": 160, "bpreg": 2.0},
        {"loss_fn": "bpr", "hidden_size": 96},
    ]


def test_points_against_the_constants_are_left_out():
    space = Space((Dimension("hidden_size", "int", 64, 128),), {"loss_fn": "top1"}, KNOWN_GOOD)
    assert space.fitted_points() == []


@given(low=st.integers(1, 50), width=st.integers(0, 60), step=st.integers(1, 20), value=st.floats(-100, 200))
def test_nearest_is_the_nearest_of_the_grid(low, width, step, value):
    grid = list(range(low, low + width + 1, step))
    nearest = Dimension("batch_size", "int", low, low + width, step=step).nearest(value)
    assert nearest in grid
    bounded = min(max(value, low), low + width)
    assert abs(nearest - bounded) == pytest.approx(min(abs(place - bounded) for place in grid), abs=1e-9)


def test_dimensions_come_after_those_they_depend_on():
    bpreg = Dimension("bpreg", "float", 0, 1, when={"loss_fn": ("bpr-max",)})
    loss = Dimension("loss_fn", "choice", options=("bpr", "bpr-max"))
    assert sort_dimensions([bpreg, loss], []) == (loss, bpreg)


@pytest.mark.parametrize(
    "dimensions",
    [
        [Dimension("bpreg", "float", 0, 1, when={"loss_fn": ("bpr-max",)})],
        [
            Dimension("bpreg", "float", 0, 1, when={"logq": (1,)}),
            Dimension("logq", "float", 0, 1, when={"bpreg": (1,)}),
        ],
    ],
    ids=["missing", "circle"],
)
def test_conditions_that_cannot_be_decided(dimensions):
    with pytest.raises(ParameterError, match="'when' of 'bpreg' can never be decided"):
        sort_dimensions(dimensions, [])


def test_two_ranges_of_a_name_must_exclude_each_other():
    loss = Dimension("loss_fn", "choice", options=("bpr", "bpr-max", "top1"))
    for_bpr = Dimension("learning_rate", "float", 0.1, 1.0, when={"loss_fn": ("bpr",)})
    for_both = Dimension("learning_rate", "float", 0.1, 1.0, when={"loss_fn": ("bpr", "top1")})
    for_top1 = Dimension("learning_rate", "float", 0.1, 1.0, when={"loss_fn": ("top1",)})
    assert len(sort_dimensions([for_bpr, for_top1, loss], [])) == 3
    with pytest.raises(ParameterError, match="'learning_rate' has two ranges that could hold at once; hint"):
        sort_dimensions([loss, for_bpr, for_both], [])


def test_points_under_the_sampler_s_names():
    space = Space(PRESETS["recpack"].dimensions, points=({"optimization_algorithm": "sgd", "learning_rate": 9.0},))
    assert space.fitted_points() == [{"optimization_algorithm": "sgd", "learning_rate": 3.0}]
    assert space.labelled_points() == [{"optimization_algorithm": "sgd", "learning_rate sgd": 3.0}]


def test_given_points_go_before_the_space_s_own():
    space = PRESETS["quick"].with_points([{"hidden_size": 64, "loss_fn": "bpr-max", "clipnorm": None}])
    assert space.fitted_points()[0] == {"loss_fn": "bpr-max", "hidden_size": 64}


def suggest_rate(trial):
    return {"learning_rate": trial.suggest_float("rate", 1e-3, 0.1, log=True), "loss_fn": "bpr"}


def test_a_function_is_a_space():
    space = FunctionSpace(function="tests_of_functions:suggest", fixed={"batch_size": 32})
    with pytest.raises(ParameterError, match="'tests_of_functions:suggest' of the space cannot be imported"):
        space.suggest(RandomTrial(0))
    space = FunctionSpace(function="math:pi")
    with pytest.raises(ParameterError, match="'math:pi' of the space is no function"):
        space.suggest(RandomTrial(0))


def test_functions_that_no_other_process_could_import():
    with pytest.raises(ParameterError, match="must be a function at the top of an importable module, got test_"):
        function_space(lambda trial: {})
    assert function_space(suggest_rate).function == f"{__name__}:suggest_rate"


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ParameterError, match="kind of logq must be float, int or choice, got 'real'"):
        Dimension("logq", "real").suggest(RandomTrial(0), "logq")
