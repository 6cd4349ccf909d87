"""What a search will cost."""

from __future__ import annotations

import pytest

from gru4rec import read_log, split_time_share
from gru4rec.data.synthetic import generate_log
from tuning.estimate import estimate_cost, expected_epochs
from tuning.presets import PRESETS
from tuning.search import make_task
from tuning.search_data import SearchData
from tuning.space import Space
from tuning.spec import SearchSpec


@pytest.mark.parametrize(
    ("spec", "epochs"),
    [
        (SearchSpec(Space(()), trials=27, max_epochs=9, grace_period=1, reduction_factor=3), 27 + 18 + 18),
        (SearchSpec(Space(()), trials=10, max_epochs=4, grace_period=4), 40),
        (SearchSpec(Space(()), trials=10, max_epochs=4, grace_period=4, epoch_budget=15), 15),
    ],
)
def test_epochs_that_asha_leaves(spec, epochs):
    assert expected_epochs(spec) == epochs


def test_an_estimate_is_a_figure_for_this_machine():
    train, validation = split_time_share(read_log(generate_log(300, 100, seed=1)), 0.3)
    spec = SearchSpec(PRESETS["quick"], trials=10, max_epochs=4, cpus_per_trial=1, max_concurrent_trials=1)
    cost = estimate_cost(spec, make_task(spec, SearchData(train, validation)))
    assert 0 < cost.epoch_s_from <= cost.epoch_s <= cost.epoch_s_to
    assert (cost.trials_at_once, cost.epochs, cost.epochs_at_most) == (1, expected_epochs(spec), 40)
    assert cost.search_s > 0
    assert "10 trials, about" in cost.render()
