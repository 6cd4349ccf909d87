"""A network as an ONNX graph, put together node by node: no exporter, and no operator that is not of the standard.

It needs the package onnx and runs nothing: that a graph computes what the network does is measured by
`gru4rec.onnx_parity`.

=======  ==============================================================  ==========================================
kind     inputs                                                          outputs
=======  ==============================================================  ==========================================
model    items (batch, steps), lengths (batch,), k (1,)                  ids, scores (batch, k)
step     items (batch,), hidden (layers, batch, H), k (1,)               ids, scores (batch, k), next_hidden
int8     as of model                                                     as of model
=======  ==============================================================  ==========================================

Items and ids are item indices; whatever lies behind the `lengths[b]` first items of a session is not looked at.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gru4rec.errors import ExportError, ParameterError, unknown_name
from gru4rec.nn.network import Network

Kind = Literal["model", "step", "int8"]
Array = npt.NDArray[Any]

OPSET, IR_VERSION = 17, 8  # of 2022: old runtimes read them, and all we need is there
LARGEST_BYTES = 2**31 - 2**20  # of weights; protobuf reads no file of 2 GiB
STATE_STEP = 1 / 127  # of quantised states, which lie in (-1, 1)
ZERO = 128  # the byte that stands for 0: uint8, since older processors overflow on products of uint8 and int8


class _Graph:
    """Nodes in the order in which they run, and the weights they read."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}

    def weight(self, name: str, value: npt.ArrayLike) -> str:
        self.weights[name] = np.asarray(value)
        return name

    def node(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        self.nodes.append(helper.make_node(operator, inputs, list(outputs), **attributes))
        return outputs[0]


def build_graph(network: Network, kind: Kind) -> Any:
    """Return an onnx.ModelProto that scores and ranks as the network does. The same network gives the same graph.

    Raises
    ------
    ParameterError
        When the kind is unknown.
    ExportError
        When the weights are too large for a file of ONNX.
    """
    if kind not in get_args(Kind):
        raise ParameterError(unknown_name(kind, get_args(Kind), "kind of graph"))
    graph = _Graph()
    state, outputs = _step(graph, network) if kind == "step" else _session(graph, network, quantised=kind == "int8")
    scores = _quantised_scores(graph, network, state) if kind == "int8" else _scores(graph, network, state)
    k = graph.node("Min", ["k", graph.weight("num_items", [network.num_items])], "k_at_most")
    graph.node("TopK", [scores, k], "scores", "ids")
    check_size(sum(weight.nbytes for weight in graph.weights.values()))
    initializers = [numpy_helper.from_array(weight, name) for name, weight in graph.weights.items()]
    ranked = [_value("ids", TensorProto.INT64, "batch", "best"), _value("scores", TensorProto.FLOAT, "batch", "best")]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "GRU4Rec", _inputs(network, kind), [*ranked, *outputs], initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def check_size(num_bytes: int) -> None:
    """Refuse weights that no file of ONNX holds.

    Raises
    ------
    ExportError
        When they have more than `LARGEST_BYTES`.
    """
    if num_bytes > LARGEST_BYTES:
        raise ExportError(
            f"the weights have {num_bytes:,} bytes, an ONNX file holds at most {LARGEST_BYTES:,}",
            "train with fewer items or a smaller hidden_size, or use the model folder itself",
        )


def _inputs(network: Network, kind: Kind) -> list[Any]:
    k = _value("k", TensorProto.INT64, 1)
    if kind == "step":
        layers, size = len(network.layers), network.hyperparameters.hidden_size
        hidden = _value("hidden", TensorProto.FLOAT, layers, "batch", size)
        return [_value("items", TensorProto.INT64, "batch"), hidden, k]
    items = _value("items", TensorProto.INT64, "batch", "steps")
    return [items, _value("lengths", TensorProto.INT64, "batch"), k]


def _value(name: str, kind: int, *shape: str | int) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _session(graph: _Graph, network: Network, quantised: bool) -> tuple[str, list[Any]]:
    """Add all steps of sessions; return the name of their last state, (batch, H), and no further outputs."""
    items = graph.node("Transpose", ["items"], "items_by_step", perm=[1, 0])
    lengths = graph.node("Cast", ["lengths"], "lengths_int32", to=TensorProto.INT32)
    embed = _quantised_embedding if quantised else _embedding
    inputs = embed(graph, network, items)  # (steps, batch, D)
    last = len(network.layers) - 1
    for layer in range(last):
        weights, how = _gru(graph, network, layer)
        states = graph.node("GRU", [inputs, *weights, lengths], f"gru.{layer}.states", **how)  # (steps, 1, batch, H)
        inputs = graph.node("Squeeze", [states, graph.weight("direction_axis", [1])], f"gru.{layer}.inputs_of_next")
    weights, how = _gru(graph, network, last)
    graph.node("GRU", [inputs, *weights, lengths], "", "gru.last_state", **how)  # (1, batch, H)
    return graph.node("Squeeze", ["gru.last_state", graph.weight("first_axis", [0])], "state"), []


def _step(graph: _Graph, network: Network) -> tuple[str, list[Any]]:
    """Add one step of sessions; return the name of their new state, (batch, H), and the states of all layers."""
    first = graph.weight("first_axis", [0])
    items = graph.node("Unsqueeze", ["items", first], "items_by_step")  # (1, batch)
    num_layers = len(network.layers)
    hidden = [f"hidden.{layer}" for layer in range(num_layers)]  # each (1, batch, H)
    graph.node("Split", ["hidden"], *hidden, axis=0)
    states = _embedding(graph, network, items)
    after = []
    for layer in range(num_layers):
        weights, how = _gru(graph, network, layer)
        graph.node("GRU", [states, *weights, "", hidden[layer]], "", f"gru.{layer}.state", **how)
        states = f"gru.{layer}.state"  # (1, batch, H): the state of the last step is that of the only one
        after.append(states)
    graph.node("Concat", after, "next_hidden", axis=0)
    shape = (num_layers, "batch", network.hyperparameters.hidden_size)
    return graph.node("Squeeze", [states, first], "state"), [_value("next_hidden", TensorProto.FLOAT, *shape)]


def _gru(graph: _Graph, network: Network, layer: int) -> tuple[list[str], dict[str, int]]:
    """Return the names of the weights of a layer, and the attributes of its node.

    One-hot inputs have been multiplied already: their row of the input table is the product. So the node's input weight
    is the matrix that puts the gates into its order.
    """
    size = network.hyperparameters.hidden_size
    recurrent = network.weights[f"gru.{layer}.recurrent"].numpy(force=True)
    input_bias = network.weights[f"gru.{layer}.input_bias"].numpy(force=True)
    reset_after = network.layers[layer].recurrent_bias is not None
    if reset_after:
        weight = network.weights[f"gru.{layer}.input"].numpy(force=True)
        recurrent_bias = network.weights[f"gru.{layer}.recurrent_bias"].numpy(force=True)
    else:
        weight = np.eye(3 * size, dtype=np.float32)
        recurrent_bias = np.zeros_like(input_bias)
    bias = np.concatenate([_in_onnx_order(input_bias), _in_onnx_order(recurrent_bias)])
    names = [
        graph.weight(f"gru.{layer}.input", _in_onnx_order(weight)[np.newaxis]),
        graph.weight(f"gru.{layer}.recurrent", _in_onnx_order(recurrent)[np.newaxis]),
        graph.weight(f"gru.{layer}.bias", bias[np.newaxis]),
    ]
    return names, {"hidden_size": size, "linear_before_reset": int(reset_after)}


def _in_onnx_order(gates: Array) -> Array:
    """Return the gates r, z, n of the first axis as z, r, n; the update gate z means the same in both."""
    r, z, n = np.split(gates, 3)
    return np.concatenate([z, r, n])


def _table(graph: _Graph, network: Network, name: str) -> str:
    return graph.weight(name, network.weights[name].numpy(force=True))


def _input_table(network: Network) -> str:
    return "output_table" if network.tied else "input_table"


def _embedding(graph: _Graph, network: Network, items: str) -> str:
    return graph.node("Gather", [_table(graph, network, _input_table(network)), items], "embedding")


def _scores(graph: _Graph, network: Network, state: str) -> str:
    table, bias = _table(graph, network, "output_table"), _table(graph, network, "item_bias")
    return graph.node("Gemm", [state, table, bias], "all_scores", transB=1)  # (batch, num_items)


def _quantised_table(graph: _Graph, network: Network, name: str) -> tuple[str, str]:
    """Return the names of a table in bytes, and of the scale of each of its rows, shape (num_items,).

    >>> import torch
    >>> graph, network = _Graph(), Network.__new__(Network)
    >>> network.weights = {"t": torch.tensor([[1.0, -0.5], [0.0, 0.0]])}
    >>> table, scale = _quantised_table(graph, network, "t")
    >>> graph.weights[table].tolist(), graph.weights[scale].tolist()
    ([[255, 64], [128, 128]], [0.007874015718698502, 1.0])
    """
    table = network.weights[name].numpy(force=True)
    largest = np.abs(table).max(axis=1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    quantised = (np.rint(table / scale[:, np.newaxis]) + ZERO).astype(np.uint8)
    return graph.weight(name, quantised), graph.weight(f"{name}.scale", scale)


def _quantised_embedding(graph: _Graph, network: Network, items: str) -> str:
    table, scale = _quantised_table(graph, network, _input_table(network))
    rows = graph.node("Cast", [graph.node("Gather", [table, items], "rows")], "rows_float", to=TensorProto.FLOAT)
    centred = graph.node("Sub", [rows, graph.weight("zero_float", np.float32(ZERO))], "rows_centred")
    scales = graph.node("Gather", [scale, items], "rows_scale")
    scales = graph.node("Unsqueeze", [scales, graph.weight("last_axis", [-1])], "rows_scale_column")
    return graph.node("Mul", [centred, scales], "embedding")


def _quantised_scores(graph: _Graph, network: Network, state: str) -> str:
    """Add the product of states and output table in whole numbers.

    The step of the states is fixed, not taken from the batch: what a session gets does not depend on the others.
    """
    table, scale = _quantised_table(graph, network, "output_table")
    state_step = graph.weight("state_step", np.float32(STATE_STEP))
    zero = graph.weight("zero", np.uint8(ZERO))
    quantised = graph.node("QuantizeLinear", [state, state_step, zero], "state_quantised")
    columns = graph.node("Transpose", [table], "output_table_columns", perm=[1, 0])
    product = graph.node("MatMulInteger", [quantised, columns, zero, zero], "products")  # (batch, num_items)
    product = graph.node("Cast", [product], "products_float", to=TensorProto.FLOAT)
    product = graph.node("Mul", [product, graph.node("Mul", [scale, state_step], "scores_scale")], "products_scaled")
    return graph.node("Add", [product, _table(graph, network, "item_bias")], "all_scores")
