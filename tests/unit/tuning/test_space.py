"""Search spaces: conditions, presets, known-good points."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import NAMES, HyperParameters
from tuning.space import KNOWN_GOOD, PRESETS, Dimension, Space, sort_dimensions

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


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_of_one_loss_exist_for_that_loss_only(name):
    points = [sample(PRESETS[name], seed) for seed in range(100)]
    for parameter, loss in ONLY_FOR.items():
        assert all((parameter in point) == (point["loss_fn"] == loss) for point in points)
        assert any(parameter in point for point in points)


def test_num_components_exists_for_separate_tables_only():
    points = [sample(PRESETS["full"], seed) for seed in range(60)]
    assert all(("num_components" in point) == (point["embedding"] == "separate") for point in points)


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


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ParameterError, match="kind of logq must be float, int or choice, got 'real'"):
        Dimension("logq", "real").suggest(optuna.create_study().ask())
