"""The network: initial weights, dropout, and the gradient of all layers against autograd."""

from __future__ import annotations

import math

import pytest
import torch

from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.network import Network, initial_weights, weight_shapes

NUM_ITEMS = 7


def make_network(num_items=NUM_ITEMS, dtype=torch.float64, **parameters):
    """Return a network whose weights are all random, biases too."""
    hyperparameters = HyperParameters(**{"hidden_size": 5, "num_components": 4, **parameters})
    generator = torch.Generator().manual_seed(11)
    shapes = weight_shapes(num_items, hyperparameters)
    weights = {name: 0.5 * torch.randn(shape, dtype=dtype, generator=generator) for name, shape in shapes.items()}
    return Network(num_items, hyperparameters, weights)


@pytest.mark.parametrize(
    ("parameters", "shapes"),
    [
        (
            {"num_layers": 1, "embedding": "separate"},
            {
                "input_table": (7, 4),
                "gru.0.input": (15, 4),
                "gru.0.recurrent": (15, 5),
                "gru.0.input_bias": (15,),
                "gru.0.recurrent_bias": (15,),
                "output_table": (7, 5),
                "item_bias": (7,),
            },
        ),
        (
            {"num_layers": 2, "embedding": "tied"},
            {
                "gru.0.input": (15, 5),
                "gru.0.recurrent": (15, 5),
                "gru.0.input_bias": (15,),
                "gru.0.recurrent_bias": (15,),
                "gru.1.input": (15, 5),
                "gru.1.recurrent": (15, 5),
                "gru.1.input_bias": (15,),
                "gru.1.recurrent_bias": (15,),
                "output_table": (7, 5),
                "item_bias": (7,),
            },
        ),
        (
            {"num_layers": 1, "embedding": "none"},
            {
                "input_table": (7, 15),
                "gru.0.recurrent": (15, 5),
                "gru.0.input_bias": (15,),
                "output_table": (7, 5),
                "item_bias": (7,),
            },
        ),
        (
            {"num_layers": 2, "embedding": "none"},
            {
                "input_table": (7, 15),
                "gru.0.recurrent": (15, 5),
                "gru.0.input_bias": (15,),
                "gru.1.input": (15, 5),
                "gru.1.recurrent": (15, 5),
                "gru.1.input_bias": (15,),
                "gru.1.recurrent_bias": (15,),
                "output_table": (7, 5),
                "item_bias": (7,),
            },
        ),
    ],
)
def test_weight_shapes(parameters, shapes):
    assert weight_shapes(NUM_ITEMS, HyperParameters(hidden_size=5, num_components=4, **parameters)) == shapes


HYPERPARAMETERS = HyperParameters(hidden_size=60, num_components=40, num_layers=2)


@pytest.fixture(scope="module")
def drawn():
    return initial_weights(50, HYPERPARAMETERS, torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("name", "gate", "rows", "columns"),
    [("input_table", None, 50, 40), ("output_table", None, 50, 60)]
    + [(f"gru.{layer}.recurrent", gate, 60, 60) for layer in (0, 1) for gate in (0, 1, 2)]
    + [("gru.0.input", gate, 60, 40) for gate in (0, 1, 2)]
    + [("gru.1.input", gate, 60, 60) for gate in (0, 1, 2)],
)
def test_initial_weights_are_uniform_within_the_bound(drawn, name, gate, rows, columns):
    values = drawn[name] if gate is None else drawn[name][gate * rows : (gate + 1) * rows]
    bound = math.sqrt(6 / (rows + columns))
    assert values.shape == (rows, columns)
    assert values.abs().max() <= bound
    deciles = torch.histc(values / bound, bins=10, min=-1.0, max=1.0) / values.numel()
    assert deciles.min() > 0.08 and deciles.max() < 0.12  # 0.1 +- more than 3 standard deviations
    assert values.unique().numel() > 0.99 * values.numel()


@pytest.mark.parametrize("gate", [0, 1, 2])
def test_initial_input_weights_without_an_embedding_are_bounded_gate_by_gate(gate):
    hyperparameters = HyperParameters(hidden_size=60, embedding="none")
    drawn = initial_weights(50, hyperparameters, torch.Generator().manual_seed(3))
    values = drawn["input_table"][:, gate * 60 : (gate + 1) * 60]
    bound = math.sqrt(6 / (50 + 60))  # the weight of one gate is 50 items by 60 units
    assert values.abs().max() <= bound
    deciles = torch.histc(values / bound, bins=10, min=-1.0, max=1.0) / values.numel()
    assert deciles.min() > 0.08 and deciles.max() < 0.12
    assert not any(weight.any() for name, weight in drawn.items() if name.endswith("bias"))


def test_initial_biases_are_zero(drawn):
    biases = [name for name in drawn if name.endswith("bias")]
    assert len(biases) == 5
    assert not any(drawn[name].any() for name in biases)


def test_initial_weights_follow_the_generator(drawn):
    again = initial_weights(50, HYPERPARAMETERS, torch.Generator().manual_seed(3))
    other = initial_weights(50, HYPERPARAMETERS, torch.Generator().manual_seed(4))
    assert all(torch.equal(again[name], drawn[name]) for name in drawn)
    assert not torch.equal(other["output_table"], drawn["output_table"])


WINDOW = (
    torch.tensor([0, 3, 6, 3, 1, 3, 2], dtype=torch.int32),
    torch.tensor([True, True, False, False, True, False, False]),
    [3, 2, 2],
)


@pytest.mark.parametrize(("dropout_embedding", "dropout_hidden"), [(0.0, 0.0), (0.4, 0.4), (0.4, 0.0), (0.0, 0.4)])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_states_and_gradients_equal_autograd(gru_steps, embedding, num_layers, dropout_embedding, dropout_hidden):
    network = make_network(
        embedding=embedding, num_layers=num_layers, dropout_embedding=dropout_embedding, dropout_hidden=dropout_hidden
    )
    items, starts, rows_per_step = WINDOW
    generator = torch.Generator().manual_seed(2)
    hidden = [state.normal_(generator=generator) for state in network.initial_hidden(4)]
    before = [state.clone() for state in hidden]
    d_states = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    states, tape = network.forward(items, starts, hidden, rows_per_step, torch.Generator().manual_seed(5))

    leaves = {name: weight.clone().requires_grad_() for name, weight in network.weights.items()}
    table = "output_table" if embedding == "tied" else "input_table"
    expected = leaves[table][items.long()]
    assert (tape.embedding_dropout is not None) == (dropout_embedding > 0 and embedding != "none")
    if tape.embedding_dropout is not None:
        expected = expected * tape.embedding_dropout
    for layer in range(num_layers):
        one_hot = embedding == "none" and layer == 0
        mask = tape.layers[layer].dropout
        assert (mask is not None) == ((dropout_embedding if one_hot else dropout_hidden) > 0)
        if one_hot:
            parts = [leaves["gru.0.recurrent"], leaves["gru.0.input_bias"]]
            expected, after = one_hot_steps(*parts, expected, starts, before[0], rows_per_step, mask)
        else:
            parts = [leaves[f"gru.{layer}.{part}"] for part in ("input", "recurrent", "input_bias", "recurrent_bias")]
            expected, after = gru_steps(parts, expected, starts, before[layer], rows_per_step, mask)
        torch.testing.assert_close(hidden[layer], after.detach(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(states, expected.detach(), rtol=1e-12, atol=1e-13)
    expected.backward(d_states)

    d_embedded, d_layers = network.backward(tape, d_states.clone())
    d_table = torch.zeros_like(network.weights[table]).index_add_(0, items.long(), d_embedded)
    torch.testing.assert_close(d_table, leaves[table].grad, rtol=1e-10, atol=1e-12)
    assert set(d_layers) == {name for name in leaves if name.startswith("gru.")}
    for name, value in d_layers.items():
        torch.testing.assert_close(value, leaves[name].grad, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: n + m)


def one_hot_steps(recurrent, bias, inputs, starts, hidden, rows_per_step, dropout):
    """The first layer on one-hot inputs: `inputs` are rows of its input weights, the reset gate acts first."""
    size = hidden.shape[1]
    w_r, w_z, w_n = recurrent.split(size)
    states = []
    for step in torch.arange(len(inputs)).split(list(rows_per_step)):
        h = hidden[: len(step)].masked_fill(starts[step].unsqueeze(1), 0.0)
        x_r, x_z, x_n = (inputs[step] + bias).split(size, dim=1)
        r, z = torch.sigmoid(x_r + h @ w_r.T), torch.sigmoid(x_z + h @ w_z.T)
        new = (1 - z) * torch.tanh(x_n + (r * h) @ w_n.T) + z * h
        if dropout is not None:
            new = new * dropout[step]
        states.append(new)
        hidden = torch.cat([new, hidden[len(step) :]])
    return torch.cat(states), hidden


def test_one_hot_input_is_a_column_of_the_input_weights():
    """Embedding 'none': a vector of zeros and a one is multiplied by the first layer's input weights."""
    network = make_network(embedding="none")
    items = torch.tensor([4, 0])
    states, _ = network.forward(items, torch.tensor([True, True]), network.initial_hidden(2), [2])
    one_hot = torch.eye(NUM_ITEMS, dtype=torch.float64)[items]
    _, x_z, x_n = (one_hot @ network.weights["input_table"] + network.weights["gru.0.input_bias"]).split(5, dim=1)
    torch.testing.assert_close(states, (1 - x_z.sigmoid()) * x_n.tanh())  # from the state zero


@pytest.mark.parametrize("embedding", ["separate", "none"])
def test_windows_one_after_the_other_equal_one_long_window(embedding):
    network = make_network(num_layers=2, embedding=embedding)
    items, starts, rows_per_step = WINDOW
    together = network.initial_hidden(3)
    states, _ = network.forward(items, starts, together, rows_per_step)
    apart = network.initial_hidden(3)
    parts = [
        network.forward(items[first : first + rows], starts[first : first + rows], apart, [rows])[0]
        for first, rows in ((0, 3), (3, 2), (5, 2))
    ]
    torch.testing.assert_close(torch.cat(parts), states)
    torch.testing.assert_close(apart, together)


def test_initial_hidden_is_zero_for_each_layer():
    hidden = make_network(num_layers=2).initial_hidden(3)
    assert [state.tolist() for state in hidden] == [[[0.0] * 5] * 3] * 2


def test_scores_are_dot_products_plus_bias():
    network = make_network()
    states = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = [
        [
            math.fsum((states[row] * network.weights["output_table"][item]).tolist())
            + network.weights["item_bias"][item].item()
            for item in range(NUM_ITEMS)
        ]
        for row in range(2)
    ]
    torch.testing.assert_close(
        network.scores(states), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-13
    )


def first_states(network, generator, rows=2000):
    """Return the states after the same item as the first of many sessions, one row each."""
    items, starts = torch.full((rows,), 2), torch.ones(rows, dtype=torch.bool)
    return network.forward(items, starts, network.initial_hidden(rows), [rows], generator)


def test_no_dropout_without_a_generator():
    states, tape = first_states(make_network(dropout=0.5), None, rows=3)
    without, _ = first_states(make_network(dropout=0.0), torch.Generator(), rows=3)
    assert torch.equal(states, without)
    assert tape.embedding_dropout is None
    assert tape.layers[0].dropout is None


def test_hidden_dropout_keeps_the_expectation():
    network = make_network(dropout_hidden=0.25)
    states, _ = first_states(network, torch.Generator().manual_seed(1))
    full = first_states(network, None, rows=1)[0].squeeze(0)
    kept = states != 0
    torch.testing.assert_close(states, kept * full / 0.75)
    # 2000 rows of 5 units: a share of 0.75 has standard deviation 0.0043, one unit's share 0.0097.
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.015)
    torch.testing.assert_close(states.mean(0), full, rtol=0.05, atol=0.0)


def test_embedding_dropout_keeps_the_expectation():
    network = make_network(dropout_embedding=0.25)
    _, tape = first_states(network, torch.Generator().manual_seed(1))
    embedded = tape.inputs[0]
    full = network.weights["input_table"][2]
    kept = embedded != 0
    torch.testing.assert_close(embedded, kept * full / 0.75)
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.015)
    assert tape.layers[0].dropout is None


def test_embedding_dropout_without_an_embedding_acts_on_the_state_of_the_first_layer():
    network = make_network(embedding="none", num_layers=2, dropout_embedding=0.25)
    _, tape = first_states(network, torch.Generator().manual_seed(1))
    full = first_states(network, None, rows=1)[1].inputs[1].squeeze(0)  # what the second layer is given
    given = tape.inputs[1]
    kept = given != 0
    torch.testing.assert_close(given, kept * full / 0.75)
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.015)
    assert tape.embedding_dropout is None
    assert tape.layers[1].dropout is None


def test_hidden_dropout_without_an_embedding_spares_the_first_layer():
    network = make_network(embedding="none", num_layers=2, dropout_hidden=0.25)
    states, tape = first_states(network, torch.Generator().manual_seed(1))
    assert tape.layers[0].dropout is None
    assert torch.equal(tape.inputs[1], first_states(network, None)[1].inputs[1])
    assert (states != 0).double().mean().item() == pytest.approx(0.75, abs=0.015)


@pytest.mark.parametrize("embedding", ["separate", "none"])
def test_dropped_states_are_carried_on(embedding):
    """The next step of a session starts from the state with its dropout, not from the one before it."""
    network = make_network(embedding=embedding, dropout=0.5)
    hidden = network.initial_hidden(200)
    items = torch.full((200,), 2)
    states, _ = network.forward(items, torch.ones(200).bool(), hidden, [200], torch.Generator().manual_seed(1))
    assert torch.equal(hidden[0], states)
    assert 0.4 < (hidden[0] == 0).double().mean().item() < 0.6


@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_dropout_leaves_the_weights_alone(embedding):
    network = make_network(dropout=0.5, embedding=embedding)
    before = {name: weight.clone() for name, weight in network.weights.items()}
    first_states(network, torch.Generator().manual_seed(1), rows=4)
    assert all(torch.equal(network.weights[name], before[name]) for name in before)
