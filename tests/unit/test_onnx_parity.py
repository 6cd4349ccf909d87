"""That differences between a graph and the model are seen, and how large they may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gru4rec.errors import DataError, DivergedError, ExportError
from gru4rec.onnx_graph import build_graph
from gru4rec.onnx_parity import (
    SHAPES,
    Parity,
    QuantisedQuality,
    check_parity,
    check_quality,
    compare_rankings,
    is_good,
    measure_parity,
    open_session,
)

NUM_ITEMS = 60
GOOD = QuantisedQuality(targets=1000, overlap=0.97, recall=0.99, mrr=0.495, recall_before=1.0, mrr_before=0.5)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(range(NUM_ITEMS), embedding="tied", num_layers=2)


def session_of(graph):
    return open_session(graph.SerializeToString())


@pytest.fixture
def log(make_sessions):
    """Each session is longer than the one before."""
    generator = np.random.default_rng(0)
    return make_sessions([generator.integers(0, NUM_ITEMS, length).tolist() for length in range(2, 20)])


# --- the same as the model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "step"])
def test_a_graph_of_the_model_is_the_same_to_rounding(model, kind):
    found = check_parity(measure_parity(model.network, session_of(build_graph(model.network, kind)), kind), kind)
    assert [(parity.sessions, parity.steps) for parity in found] == [(1, 1), (1, 10), (5, 3), (64, 13)] == [*SHAPES]
    assert all(parity.max_error < 1e-5 and parity.max_gap < 1e-5 for parity in found)


@pytest.mark.parametrize("kind", ["model", "step"])
def test_a_reset_gate_at_the_wrong_place_is_seen(model, kind):
    """Exporters were seen to write this for torch.nn.GRU."""
    graph = build_graph(model.network, kind)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "linear_before_reset":
                attribute.i = 0
    with pytest.raises(ExportError, match=rf"^the {kind} graph does not compute what the model does: for 1 x "):
        check_parity(measure_parity(model.network, session_of(graph), kind), kind)


def test_a_state_that_is_not_handed_on_is_seen(model):
    graph = build_graph(model.network, "step")
    concat = next(node for node in graph.graph.node if node.op_type == "Concat")
    concat.input[0] = concat.input[1]
    found = measure_parity(model.network, session_of(graph), "step")
    assert found[0].max_error > 0.01
    assert found[0].max_gap == 0  # one step: the ranking is right


def test_a_session_that_looks_at_its_padding_is_seen(model):
    graph = build_graph(model.network, "model")
    for node in graph.graph.node:
        if node.op_type == "GRU":
            node.input[4] = ""
    found = measure_parity(model.network, session_of(graph), "model")
    assert [parity.max_error < 1e-5 for parity in found] == [True, True, False, False]


def test_scores_that_are_not_finite_are_the_models_fault(make_model):
    model = make_model(range(NUM_ITEMS))
    model.network.item_bias[3] = torch.nan
    with pytest.raises(
        DivergedError, match=r"^the model's scores are not finite; hint: train with a lower learning_rate"
    ):
        measure_parity(model.network, session_of(build_graph(model.network, "model")), "model")


# --- by hand ----------------------------------------------------------------------------------------------------------

EXPECTED = np.array([[1.0, 3.0, 2.0, 2.00001]], dtype=np.float32)


@pytest.mark.parametrize(
    ("ids", "scores", "expected"),
    [
        ([1, 3, 2], [3.0, 2.00001, 2.0], (0, 0, 0)),
        ([1, 2, 3], [3.0, 2.0, 2.00001], (0, 1e-5 / 3, 2)),
        ([1, 3, 0], [3.5, 2.00001, 1.0], (0.5 / 4, 1 / 3, 1)),
        ([1, 3, 3], [3.0, 2.00001, 2.00001], (0, np.inf, 1)),
        ([1, 3, 2], [3.0, np.nan, 2.0], (np.nan, 0, 0)),
    ],
    ids=["the same", "tied", "wrong", "twice", "not a number"],
)
def test_rankings_are_compared_place_by_place(ids, scores, expected):
    found = compare_rankings(EXPECTED, np.array([ids]), np.array([scores], dtype=np.float32))
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-12)  # 2.00001 in float32 is 2.0000100136


@pytest.mark.parametrize(
    ("parity", "allowed"),
    [
        (Parity(5, 3, 1e-4, 1e-5, 7), True),
        (Parity(5, 3, 1.1e-4, 0, 0), False),
        (Parity(5, 3, 0, 1.1e-5, 1), False),
        (Parity(5, 3, np.nan, 0, 0), False),
    ],
)
def test_how_much_is_allowed(parity, allowed):
    if allowed:
        assert check_parity([parity], "model") == [parity]
    else:
        with pytest.raises(ExportError, match="for 5 x 3 items"):
            check_parity([parity], "model")


# --- as good as the model ---------------------------------------------------------------------------------------------


def test_figures_are_those_of_an_evaluation(model, log):
    session = session_of(build_graph(model.network, "model"))
    known, _ = log.with_items_of(model.items)
    quality = check_quality(session, session, known)
    metrics = model.evaluate(log).metrics
    assert (quality.targets, quality.overlap) == (sum(range(1, 19)), 1.0)
    assert quality.recall == quality.recall_before == pytest.approx(metrics["recall@20"])
    assert quality.mrr == quality.mrr_before == pytest.approx(metrics["mrr@20"])
    assert 0.1 < quality.recall < 0.9


def test_another_models_ranking_is_refused_with_its_figures(model, make_model, log):
    known, _ = log.with_items_of(model.items)
    other = session_of(build_graph(make_model(range(NUM_ITEMS), seed=1).network, "model"))
    with pytest.raises(
        ExportError, match=r"^the int8 graph is not as good as the model: targets 171, overlap 0\.\d+, "
    ):
        check_quality(other, session_of(build_graph(model.network, "model")), known)


@pytest.mark.parametrize(
    ("change", "good"),
    [({}, True), ({"overlap": 0.969}, False), ({"recall": 0.9899}, False), ({"mrr": 0.4949}, False)],
    ids=str,
)
def test_overlap_recall_and_mrr_all_count(change, good):
    assert is_good(replace(GOOD, **change)) is good


def test_a_log_without_pairs_cannot_judge(model, make_sessions):
    known, _ = make_sessions([[1], [2]]).with_items_of(model.items)
    session = session_of(build_graph(model.network, "model"))
    with pytest.raises(DataError, match="no session has two known events"):
        check_quality(session, session, known)
