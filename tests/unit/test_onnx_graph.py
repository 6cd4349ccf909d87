"""Graphs, run by onnxruntime, beside the formulas of `gru4rec.nn.gru` said as plainly as possible, in float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from gru4rec.errors import ExportError
from gru4rec.onnx_graph import LARGEST_BYTES, STATE_STEP, build_graph, check_size
from gru4rec.onnx_parity import open_session

NUM_ITEMS, SIZE = 11, 4
SESSIONS = [[3, 1, 4, 1, 5], [9, 2], [6], [0, 10, 0], []]
NETWORKS = [(embedding, layers) for embedding in ("separate", "tied", "none") for layers in (1, 2, 3)]


@pytest.fixture
def network(make_model, request):
    embedding, layers = request.param
    return make_model(range(NUM_ITEMS), embedding=embedding, num_layers=layers, hidden_size=SIZE).network


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def new_state(weights, layer, x, h):
    """One step of a layer on an embedded input, or, where it has no recurrent bias, on the row of a one-hot input."""
    recurrent = np.split(weights[f"gru.{layer}.recurrent"], 3)
    bias = np.split(weights[f"gru.{layer}.input_bias"], 3)
    if f"gru.{layer}.input" not in weights:
        r, z, n = (part + one for part, one in zip(np.split(x, 3), bias, strict=True))
        r, z = sigmoid(r + recurrent[0] @ h), sigmoid(z + recurrent[1] @ h)
        n = np.tanh(n + recurrent[2] @ (r * h))
    else:
        inputs = np.split(weights[f"gru.{layer}.input"], 3)
        recurrent_bias = np.split(weights[f"gru.{layer}.recurrent_bias"], 3)
        r, z, n = (part @ x + one for part, one in zip(inputs, bias, strict=True))
        of_h = [part @ h + one for part, one in zip(recurrent, recurrent_bias, strict=True)]
        r, z = sigmoid(r + of_h[0]), sigmoid(z + of_h[1])
        n = np.tanh(n + r * of_h[2])
    return (1 - z) * n + z * h


def in_bytes(table):
    """What is left of a table after rounding each row to 127 steps of its largest number to either side."""
    step = np.abs(table).max(1, keepdims=True) / 127
    return np.rint(table / step) * step


def oracle(network, session, quantised=False):
    """Return the states of all layers after a session, and the score of every item."""
    weights = {name: weight.double().numpy() for name, weight in network.weights.items()}
    if quantised:
        weights |= {name: in_bytes(table) for name, table in weights.items() if name.endswith("_table")}
    table = weights["output_table" if network.tied else "input_table"]
    hidden = np.zeros((len(network.layers), SIZE))
    for item in session:
        x = table[item]
        for layer, h in enumerate(hidden):
            x = hidden[layer] = new_state(weights, layer, x, h.copy())
    state = np.rint(hidden[-1] / STATE_STEP) * STATE_STEP if quantised else hidden[-1]
    return hidden, weights["output_table"] @ state + weights["item_bias"]


def inputs(sessions, k, padding=0):
    items = np.full((len(sessions), max(map(len, sessions))), padding)
    for row, session in enumerate(sessions):
        items[row, : len(session)] = session
    return {"items": items, "lengths": np.array([len(session) for session in sessions]), "k": np.array([k])}


def by_item(ids, scores):
    """Return the score of every item from a ranking of all of them, and check that it is one."""
    assert sorted(ids.tolist()) == list(range(NUM_ITEMS))
    assert (np.diff(scores) <= 0).all()
    return scores[np.argsort(ids)]


@pytest.mark.parametrize("network", NETWORKS, indirect=True, ids=str)
def test_whole_sessions(network):
    session = open_session(build_graph(network, "model").SerializeToString())
    ids, scores = session.run(["ids", "scores"], inputs(SESSIONS, NUM_ITEMS))
    for row, items in enumerate(SESSIONS):
        _, expected = oracle(network, items)
        np.testing.assert_allclose(by_item(ids[row], scores[row]), expected, rtol=1e-5, atol=1e-5)
    again = session.run(["ids", "scores"], inputs(SESSIONS, 3, padding=7))  # neither padding nor k changes the first
    assert np.array_equal(again[0], ids[:, :3])
    assert np.array_equal(again[1], scores[:, :3])
    assert session.run(["ids"], inputs(SESSIONS[:1], 999))[0].shape == (1, NUM_ITEMS)


@pytest.mark.parametrize("network", NETWORKS, indirect=True, ids=str)
def test_one_step_at_a_time(network):
    session = open_session(build_graph(network, "step").SerializeToString())
    hidden = np.zeros((len(network.layers), 2, SIZE), dtype=np.float32)
    for step in range(3):
        given = {"items": np.array([SESSIONS[0][step], SESSIONS[3][step]]), "hidden": hidden, "k": np.array([999])}
        ids, scores, hidden = session.run(["ids", "scores", "next_hidden"], given)
        for row, items in enumerate([SESSIONS[0], SESSIONS[3]]):
            states, expected = oracle(network, items[: step + 1])
            np.testing.assert_allclose(hidden[:, row], states, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(by_item(ids[row], scores[row]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS, indirect=True, ids=str)
def test_tables_in_bytes(network):
    session = open_session(build_graph(network, "int8").SerializeToString())
    ids, scores = session.run(["ids", "scores"], inputs(SESSIONS, NUM_ITEMS))
    one_step = STATE_STEP * network.output_table.abs().max().item()  # a state on the edge may be rounded either way
    for row, items in enumerate(SESSIONS):
        _, expected = oracle(network, items, quantised=True)
        np.testing.assert_allclose(by_item(ids[row], scores[row]), expected, rtol=1e-4, atol=1.01 * one_step)
        assert np.array_equal(session.run(["ids"], inputs([items], NUM_ITEMS))[0][0], ids[row])  # whoever is beside it


@pytest.mark.parametrize("network", NETWORKS, indirect=True, ids=str)
def test_the_standards_reference_implementation_agrees(network):
    graph = build_graph(network, "step")
    given = {"items": np.array([3]), "hidden": np.zeros((len(network.layers), 1, SIZE), dtype=np.float32)}
    given["hidden"] += np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)
    results = [
        runtime.run(["ids", "scores", "next_hidden"], given | {"k": np.array([NUM_ITEMS])})
        for runtime in (ReferenceEvaluator(graph), open_session(graph.SerializeToString()))
    ]
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "embedding", "tables"),
    [
        ("model", "tied", {"output_table": 4}),
        ("step", "separate", {"output_table": 4, "input_table": 4}),
        ("int8", "tied", {"output_table": 1}),
        ("int8", "none", {"output_table": 1, "input_table": 1}),
    ],
)
def test_each_table_is_there_once(make_model, kind, embedding, tables):
    network = make_model(range(NUM_ITEMS), embedding=embedding).network
    found = {weight.name: onnx.numpy_helper.to_array(weight) for weight in build_graph(network, kind).graph.initializer}
    large = {name: array.itemsize for name, array in found.items() if array.ndim == 2 and len(array) == NUM_ITEMS}
    assert large == tables  # bytes of a number


@pytest.mark.parametrize("kind", ["model", "step", "int8"])
def test_operators_are_the_standards_and_all_weights_are_used(make_model, kind):
    made = build_graph(make_model(range(NUM_ITEMS)).network, kind)
    assert [(opset.domain, opset.version) for opset in made.opset_import] == [("", 17)]
    assert (made.ir_version, len(made.functions)) == (8, 0)
    assert {node.domain for node in made.graph.node} == {""}
    used = {name for node in made.graph.node for name in node.input}
    assert {weight.name for weight in made.graph.initializer} <= used


def test_an_index_that_is_no_items_is_refused_by_the_runtime(make_model):
    session = open_session(build_graph(make_model(range(NUM_ITEMS)).network, "model").SerializeToString())
    with pytest.raises(Exception, match="out of data bounds, idx=11"):
        session.run(["ids"], inputs([[11]], 3))


def test_more_than_a_file_holds_is_refused():
    assert LARGEST_BYTES < 2**31  # the limit of protobuf
    check_size(LARGEST_BYTES)
    with pytest.raises(
        ExportError, match=r"^the weights have 2,147,483,648 bytes, an ONNX file holds at most 2,146,435"
    ):
        check_size(2**31)
