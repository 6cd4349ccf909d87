"""Ranks among all items against a slow numpy GRU, one session and one step at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec import evaluation
from gru4rec.data.sessions import ItemVocabulary, Sessions
from gru4rec.errors import DataError, DivergedError, ParameterError
from gru4rec.evaluation import compute_ranks, count_scores, rankable_sessions, score_tiles
from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.nn.products import ROWS, linear

NUM_ITEMS = 6
SATURATING = 4000.0


def make_network(draw_weight, embedding="separate", num_layers=1, num_items=NUM_ITEMS):
    """Return a network of weights of draw_weight(shape)."""
    hyperparameters = HyperParameters(embedding=embedding, num_layers=num_layers, hidden_size=3, num_components=2)
    shapes = weight_shapes(num_items, hyperparameters)
    return Network(num_items, hyperparameters, {name: draw_weight(name, shape) for name, shape in shapes.items()})


def random_network(seed=0, **parameters):
    """Return a network of real numbers in double precision: no two scores are equal."""
    generator = torch.Generator().manual_seed(seed)
    return make_network(lambda _, shape: torch.randn(shape, dtype=torch.float64, generator=generator), **parameters)


def exact_network(seed, **parameters):
    """Return a network of small whole numbers whose scores are exact, so that many of them are truly tied.

    Weights of the GRU are so large that a gate is exactly 0, 0.5 or 1, and states are small sums of powers of two.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw_weight(name, shape):
        return torch.randint(-1, 2, shape, generator=generator).float() * (SATURATING if name.startswith("gru.") else 1)

    return make_network(draw_weight, **parameters)


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def numpy_scores(network, items):
    """Return the score of every item after a session's items, by the equations of the GRU."""
    weights = {name: weight.double().numpy() for name, weight in network.weights.items()}
    embedding = weights.get("input_table", weights["output_table"])
    states = [np.zeros(3) for _ in range(network.hyperparameters.num_layers)]
    for item in items:
        x = embedding[item]
        for layer, h in enumerate(states):
            names = [f"gru.{layer}.{part}" for part in ("input", "recurrent", "input_bias", "recurrent_bias")]
            from_x, from_h, x_bias, h_bias = (np.split(weights[name], 3) for name in names)
            r = sigmoid(from_x[0] @ x + x_bias[0] + from_h[0] @ h + h_bias[0])
            z = sigmoid(from_x[1] @ x + x_bias[1] + from_h[1] @ h + h_bias[1])
            n = np.tanh(from_x[2] @ x + x_bias[2] + r * (from_h[2] @ h + h_bias[2]))
            states[layer] = x = (1 - z) * n + z * h
    return [float(weights["output_table"][item] @ x + weights["item_bias"][item]) for item in range(network.num_items)]


def slow_ranks(network, sessions, steps):
    """Return ranks, and how many targets are tied, with a list of scores for each target."""
    ranks, num_tied = [], 0
    for session in sessions:
        first = 1 if steps == "all" else max(len(session) - 1, 1)
        for place in range(first, len(session)):
            scores = numpy_scores(network, session[:place])
            own = scores.pop(session[place])
            ranks.append(1 + sum(score >= own for score in scores))
            num_tied += own in scores
    return ranks, num_tied


@pytest.fixture(scope="session")
def log(make_sessions):
    """Build a log over the items 0 .. NUM_ITEMS-1, whichever of them occur."""

    def make(sessions):
        made = make_sessions(sessions)
        ids = np.array(made.items.ids, dtype=np.int32)
        return replace(made, item_index=ids[made.item_index], items=ItemVocabulary(np.arange(NUM_ITEMS)))

    return make


LOGS = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=6), min_size=1, max_size=7).filter(
    lambda sessions: max(map(len, sessions)) >= 2
)
EXAMPLE = [[0, 1, 2], [3], [4, 5, 4, 3, 2], [1, 1], [], [2, 0, 5]]


@pytest.mark.parametrize("make", [random_network, exact_network])
@settings(max_examples=40, deadline=None)
@given(
    sessions=LOGS,
    seed=st.integers(0, 2**31),
    embedding=st.sampled_from(["separate", "tied"]),
    num_layers=st.integers(1, 2),
    steps=st.sampled_from(["all", "last"]),
)
def test_ranks_equal_a_slow_reference(log, make, sessions, seed, embedding, num_layers, steps):
    network = make(seed, embedding=embedding, num_layers=num_layers)
    ranked = compute_ranks(network, log(sessions), steps)
    assert (ranked.ranks.tolist(), ranked.num_tied) == slow_ranks(network, sessions, steps)


def test_exact_networks_have_ties():
    assert sum(slow_ranks(exact_network(seed), EXAMPLE, "all")[1] for seed in range(5)) >= 20


def biased_network(item_bias):
    """Return a network whose scores are the item bias, whatever the session."""
    network = make_network(lambda _, shape: torch.zeros(shape))
    network.item_bias.copy_(torch.tensor(item_bias))
    return network


@pytest.mark.parametrize(
    ("steps", "ranks", "num_tied"),
    [
        # Places of the items 0 .. 5 by bias, ties counted against the target: 3 3 1 6 6 6
        ("all", [3, 1, 6, 6, 6, 1, 3, 3, 6], 7),
        ("last", [1, 1, 3, 6], 2),
    ],
)
@pytest.mark.parametrize("items_per_tile", [1, 4, 1024])
def test_ranks_by_hand_follow_sessions_and_steps(log, monkeypatch, items_per_tile, steps, ranks, num_tied):
    monkeypatch.setattr(evaluation, "ITEMS_PER_TILE", items_per_tile)
    ranked = compute_ranks(biased_network([0.5, 0.5, 2.0, -1.0, -1.0, -1.0]), log(EXAMPLE), steps)
    assert (ranked.ranks.tolist(), ranked.num_tied) == (ranks, num_tied)
    assert ranked.ranks.dtype == np.int64


@pytest.mark.parametrize(("steps", "sessions"), [("all", [0, 0, 2, 2, 2, 2, 3, 5, 5]), ("last", [0, 2, 3, 5])])
def test_targets_know_their_session(log, steps, sessions):
    assert compute_ranks(random_network(), log(EXAMPLE), steps).session_of_target.tolist() == sessions


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ("all", [("a", [1, 2]), ("b", [1, 3]), ("c", [2, 3]), ("d", [1])]),
        ("last", [("b", [1, 3]), ("c", [2, 3])]),  # the last items of a and d are unknown, e has none
    ],
)
def test_a_session_that_ends_in_an_unknown_item_has_no_last_target(make_sessions, unpack, steps, kept):
    sessions = make_sessions([[1, 2, 9], [1, 9, 3], [9, 2, 3], [1, 8], []], session_ids=list("abcde"))
    known, num_unknown = rankable_sessions(sessions, ItemVocabulary(np.array([3, 1, 2])), steps)
    assert [(key, items) for key, items, _ in unpack(known)] == kept
    assert num_unknown == 4


def test_all_scores_equal_is_the_worst_rank(log):
    ranked = compute_ranks(biased_network([0.0] * NUM_ITEMS), log([[0, 1], [2, 3, 4]]))
    assert (ranked.ranks.tolist(), ranked.num_tied) == ([NUM_ITEMS] * 3, 3)


def set_sizes(monkeypatch, **sizes):
    for name, value in sizes.items():
        monkeypatch.setattr(evaluation, name, value)


@pytest.mark.parametrize("steps", ["all", "last"])
@pytest.mark.parametrize(("sessions_at_once", "states_at_once"), [(1, 1), (2, 3), (512, 1), (512, 512)])
@pytest.mark.parametrize(("rows", "items", "rows_of_own"), [(1, 1, 1), (2, 4, 1), (3, 5, 2), (512, 3, 512)])
def test_tiles_do_not_change_ranks(log, monkeypatch, rows, items, rows_of_own, sessions_at_once, states_at_once, steps):
    set_sizes(monkeypatch, ROWS_PER_TILE=rows, ITEMS_PER_TILE=items, ROWS_OF_OWN=rows_of_own, ROWS=1)
    set_sizes(monkeypatch, SESSIONS_AT_ONCE=sessions_at_once, STATES_AT_ONCE=states_at_once)
    for seed in range(3):
        network = exact_network(seed)
        ranked = compute_ranks(network, log(EXAMPLE), steps)
        assert (ranked.ranks.tolist(), ranked.num_tied) == slow_ranks(network, EXAMPLE, steps)


@pytest.mark.parametrize("error", [-1.0, 1e-6, 1.0, float("nan")])
def test_own_scores_that_are_rounded_otherwise_do_not_change_ranks(log, monkeypatch, error):
    own_scores = evaluation.own_scores
    monkeypatch.setattr(evaluation, "own_scores", lambda *block: own_scores(*block) + error)
    monkeypatch.setattr(evaluation, "ITEMS_PER_TILE", 4)
    network = exact_network(3)
    ranked = compute_ranks(network, log(EXAMPLE))
    assert (ranked.ranks.tolist(), ranked.num_tied) == slow_ranks(network, EXAMPLE, "all")


@pytest.fixture(scope="module")
def twins():
    """A network of floats in which the items i and half + i have the same weights, over two tiles and a bit."""
    half = evaluation.ITEMS_PER_TILE + 5
    hyperparameters = HyperParameters(embedding="tied", hidden_size=100)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator)
        for name, shape in weight_shapes(2 * half, hyperparameters).items()
    }
    for name in ("output_table", "item_bias"):
        weights[name][half:] = weights[name][:half]
    return Network(2 * half, hyperparameters, weights)


@pytest.mark.parametrize("num_sessions", [1, 2, 3, 7, 1500])
def test_items_of_equal_weights_are_tied_across_tiles(twins, num_sessions):
    random = np.random.default_rng(num_sessions)
    item_index = random.integers(twins.num_items, size=2 * num_sessions).astype(np.int32)
    offsets, nothing = 2 * np.arange(num_sessions + 1), np.zeros(2 * num_sessions)
    vocabulary = ItemVocabulary(np.arange(twins.num_items))
    ranked = compute_ranks(twins, Sessions(item_index, offsets, nothing, np.arange(num_sessions), vocabulary))
    assert ranked.num_tied == num_sessions
    assert (ranked.ranks % 2 == 0).all()  # what scores as high comes in pairs


@pytest.mark.parametrize("max_items", [1, 4, 5, 6, 100])
def test_score_tiles_are_all_scores_in_nearly_equal_parts(max_items):
    network = exact_network(0)
    states = torch.randint(-2, 3, (4, 3)).float()
    tiles = list(score_tiles(network, states, max_items))
    widths = [scores.shape[1] for _, scores in tiles]
    assert [first for first, _ in tiles] == [sum(widths[:place]) for place in range(len(widths))]
    assert max(widths) <= max_items and max(widths) - min(widths) <= 1
    expected = states @ network.output_table.T + network.item_bias
    assert torch.equal(torch.cat([scores for _, scores in tiles], dim=1), expected)


@pytest.mark.parametrize("num_rows", [1, 3, 17, 100])
def test_every_product_with_all_items_is_one_for_onednn(monkeypatch, num_rows):
    """Other numbers of rows take twice as long, and few rows can lose ties."""
    network, rows = random_network(), []
    monkeypatch.setattr(evaluation, "tile_linear", lambda x, *weights: rows.append(len(x)) or linear(x, *weights))
    states = torch.randn(num_rows, network.output_table.shape[1], dtype=torch.float64)
    targets = torch.zeros(num_rows, dtype=torch.int64)
    count_scores(network, states, targets)
    assert rows and not any(count % ROWS for count in rows)


def test_dropout_is_off(log):
    plain = random_network()
    with_dropout = Network(NUM_ITEMS, replace(plain.hyperparameters, dropout=0.9), plain.weights)
    assert compute_ranks(with_dropout, log(EXAMPLE)).ranks.tolist() == slow_ranks(plain, EXAMPLE, "all")[0]


def test_weights_are_left_alone(log):
    network = random_network()
    before = {name: weight.clone() for name, weight in network.weights.items()}
    compute_ranks(network, log(EXAMPLE))
    assert all(torch.equal(network.weights[name], before[name]) for name in before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("spoil", ["all items", "the target", "another item"])
@pytest.mark.parametrize("items_per_tile", [2, 1024])
def test_scores_that_are_not_finite_are_an_error(log, monkeypatch, items_per_tile, spoil, bad):
    monkeypatch.setattr(evaluation, "ITEMS_PER_TILE", items_per_tile)
    network = biased_network([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    network.item_bias[{"all items": slice(None), "the target": 1, "another item": 4}[spoil]] = bad
    with pytest.raises(DivergedError, match="scores are not finite; hint: train with a lower learning_rate"):
        compute_ranks(network, log([[0, 1]]))


def test_gru_of_nan_is_an_error(log):
    network = random_network()
    network.layers[0].recurrent_bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        compute_ranks(network, log(EXAMPLE))


def test_nothing_to_rank_is_an_error(log):
    with pytest.raises(DataError, match=r"no session has two known events or more, nothing to rank \(2 sessions\)"):
        compute_ranks(random_network(), log([[0], [1]]))


def test_unknown_steps_are_refused(log):
    with pytest.raises(ParameterError, match="steps must be 'all' or 'last', got 'first'"):
        compute_ranks(random_network(), log(EXAMPLE), "first")
