"""The trainer against a naive one: torch.nn.GRUCell, scores of all items, autograd, optimizers on dense tables."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gru4rec import training
from gru4rec.data.batching import lay_sessions
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.errors import DataError, DivergedError
from gru4rec.hyperparameters import SAMPLED_LOSSES, HyperParameters
from gru4rec.nn.distinct import DistinctRows
from gru4rec.nn.network import Network
from gru4rec.training import Trainer, clip_norm

LOG = [[0, 1, 2, 0], [3, 4], [5, 2, 2, 1, 0], [6], [4, 3, 6], [1, 5], [0, 6, 5], [2, 4, 1]]
SMALL = {
    "hidden_size": 4,
    "num_components": 3,
    "batch_size": 3,
    "num_negatives": 5,
    "learning_rate": 0.1,
    "epsilon": 1e-6,
}


@pytest.fixture(scope="session")
def log(make_sessions):
    return make_sessions(LOG)


def make_trainer(sessions, seed=7, **parameters):
    return Trainer(HyperParameters(**{**SMALL, **parameters}), sessions, seed=seed)


def bits(trainer):
    return {name: weight.numpy().tobytes() for name, weight in trainer.network.weights.items()}


# --- an epoch against the naive trainer ------------------------------------------------------------------------------


class NaiveTrainer:
    """One epoch of GRU4Rec in double precision; `drawn` holds the negatives of each window."""

    def __init__(self, hyperparameters, sessions, weights, drawn, gru_steps, window_loss):
        self.hyperparameters = hyperparameters
        self.sessions = sessions
        self.weights = {name: weight.double().clone() for name, weight in weights.items()}
        self.drawn = drawn
        self.gru_steps, self.window_loss = gru_steps, window_loss
        self.memory = {}
        self.losses = []

    def run(self):
        hyperparameters = self.hyperparameters
        grid = lay_sessions(self.sessions, hyperparameters.batch_size)
        hidden = [torch.zeros(grid.inputs.shape[1], hyperparameters.hidden_size).double()] * hyperparameters.num_layers
        windows = range(0, grid.num_steps, hyperparameters.bptt)
        for first, drawn in zip(windows, self.drawn, strict=True):
            rows_per_step = grid.lanes_per_step[first : first + hyperparameters.bptt].tolist()
            items, targets, starts = (
                torch.from_numpy(np.concatenate([part[first + step, :rows] for step, rows in enumerate(rows_per_step)]))
                for part in (grid.inputs, grid.targets, grid.starts)
            )
            hidden = self.window(items.long(), targets.long(), starts, rows_per_step, hidden, drawn)
        return self

    def window(self, items, targets, starts, rows_per_step, hidden, drawn):
        hyperparameters = self.hyperparameters
        leaves = {name: weight.clone().requires_grad_() for name, weight in self.weights.items()}
        states = leaves.get("input_table", leaves["output_table"])[items]
        after = []
        for layer in range(hyperparameters.num_layers):
            names = ("input", "recurrent", "input_bias", "recurrent_bias")
            parts = [leaves.get(f"gru.{layer}.{name}") for name in names]
            one_hot = hyperparameters.embedding == "none" and layer == 0
            steps = one_hot_steps if one_hot else self.gru_steps
            states, last = steps(parts, states, starts, hidden[layer], rows_per_step)
            after.append(last.detach())
        scores = states @ leaves["output_table"].T + leaves["item_bias"]
        counts = torch.from_numpy(self.sessions.item_counts())
        loss = self.window_loss(hyperparameters, scores, targets, drawn, counts)
        self.losses.append(loss.item())
        (loss / (hyperparameters.batch_size * hyperparameters.bptt)).backward()
        gradients = {name: leaf.grad for name, leaf in leaves.items()}
        if hyperparameters.clipnorm is not None:
            norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
            gradients = {name: g * min(1.0, hyperparameters.clipnorm / norm) for name, g in gradients.items()}
        for name, gradient in gradients.items():
            self.step(name, gradient, self.touched(name, items, targets, drawn))
        return after

    def touched(self, name, items, targets, drawn):
        """Return which rows of a weight the window moves."""
        touched = torch.zeros(len(self.weights[name]), dtype=torch.bool)
        candidates = torch.cat([targets, drawn])
        if name.startswith("gru.") or (name != "input_table" and self.hyperparameters.num_negatives == "all"):
            touched[:] = True
        elif name == "input_table":
            touched[items] = True
        elif name == "output_table" and self.hyperparameters.embedding == "tied":
            touched[torch.cat([candidates, items])] = True
        else:
            touched[candidates] = True
        return touched

    def step(self, name, gradient, touched):
        weight, rate = self.weights[name], self.hyperparameters.learning_rate
        squares, velocity = self.memory.setdefault(name, (torch.zeros_like(weight), torch.zeros_like(weight)))
        if self.hyperparameters.optimization_algorithm == "adagrad":
            squares += gradient**2
            gradient = gradient / (squares + self.hyperparameters.epsilon).sqrt()
        velocity[touched] = self.hyperparameters.momentum * velocity[touched] - rate * gradient[touched]
        weight[touched] += velocity[touched]


def one_hot_steps(weights, inputs, starts, hidden, rows_per_step):
    """The first layer without an embedding: rows of its input weights come in, the reset gate acts first."""
    _, recurrent, bias, _ = weights
    states = []
    for step in torch.arange(len(inputs)).split(list(rows_per_step)):
        h = hidden[: len(step)].masked_fill(starts[step].unsqueeze(1), 0.0)
        (x_r, x_z, x_n), (w_r, w_z, w_n) = (inputs[step] + bias).chunk(3, dim=1), recurrent.chunk(3)
        r, z = torch.sigmoid(x_r + h @ w_r.T), torch.sigmoid(x_z + h @ w_z.T)
        states.append((1 - z) * torch.tanh(x_n + (r * h) @ w_n.T) + z * h)
        hidden = torch.cat([states[-1], hidden[len(step) :]])
    return torch.cat(states), hidden


def record_draws(trainer):
    """Return a list that fills with what the trainer draws."""
    drawn, draw = [], trainer._negatives.draw

    def recording(count):
        drawn.append(draw(count))
        return drawn[-1]

    trainer._negatives.draw = recording
    return drawn


CASES = [
    {"loss_fn": "bpr"},
    {"loss_fn": "bpr", "embedding": "tied"},
    {"loss_fn": "top1", "num_layers": 2, "clipnorm": None},
    {"loss_fn": "top1-max", "num_layers": 2, "embedding": "tied", "momentum": 0.3},
    {"loss_fn": "bpr-max", "momentum": 0.5, "clipnorm": 0.05, "sample_alpha": 0.0},
    {"loss_fn": "bpr-max", "elu_param": 0.0, "bpreg": 0.2, "embedding": "tied", "optimization_algorithm": "sgd"},
    {"loss_fn": "cross-entropy", "momentum": 0.9, "optimization_algorithm": "sgd", "clipnorm": None},
    {"loss_fn": "cross-entropy", "embedding": "tied", "logq": 0.5, "num_layers": 2, "clipnorm": 0.05},
    {"loss_fn": "cross-entropy", "num_negatives": "all", "momentum": 0.4},
    {"loss_fn": "cross-entropy", "num_negatives": "all", "embedding": "tied", "bptt": 2, "clipnorm": 0.1},
    {"loss_fn": "bpr", "negatives": "per_target", "momentum": 0.2},
    {"loss_fn": "bpr-max", "negatives": "per_target", "embedding": "tied", "clipnorm": 0.02, "num_negatives": 20},
    {"loss_fn": "top1", "bptt": 3, "momentum": 0.3, "num_layers": 2},
    {"loss_fn": "bpr-max", "bptt": 4, "embedding": "tied", "optimization_algorithm": "sgd", "momentum": 0.3},
    {"loss_fn": "cross-entropy", "bptt": 100, "negatives": "per_target", "logq": 0.0},
    {"loss_fn": "bpr-max", "embedding": "none", "bptt": 3, "num_layers": 2, "momentum": 0.3, "clipnorm": 0.05},
    {"loss_fn": "cross-entropy", "embedding": "none", "num_negatives": "all", "bptt": 2},
    {"loss_fn": "top1-max", "embedding": "none", "negatives": "per_target", "momentum": 0.2},
]


@pytest.mark.parametrize("parameters", CASES, ids=str)
def test_epoch_equals_a_naive_one(log, gru_steps, window_loss, parameters):
    trainer = make_trainer(log, **parameters)
    hyperparameters = trainer.hyperparameters
    before = {name: weight.clone() for name, weight in trainer.network.weights.items()}
    drawn = record_draws(trainer)
    result = trainer.train_epoch()
    if hyperparameters.num_negatives == "all":
        drawn = [torch.empty(0, dtype=torch.int64)] * -(-lay_sessions(log, 3).num_steps // hyperparameters.bptt)
    naive = NaiveTrainer(hyperparameters, log, before, drawn, gru_steps, window_loss).run()
    assert result.loss == pytest.approx(sum(naive.losses) / log.num_targets, rel=1e-5)
    for name, weight in trainer.network.weights.items():
        torch.testing.assert_close(
            weight.double(), naive.weights[name], rtol=1e-4, atol=2e-5, msg=lambda m, n=name: n + m
        )
        assert not torch.equal(weight, before[name])


@pytest.mark.parametrize("parameters", CASES, ids=str)
def test_three_windows_in_double_precision_equal_naive_ones(make_sessions, gru_steps, window_loss, parameters):
    """The same to the last digits: single precision hides small mistakes."""
    bptt = parameters.get("bptt", 1)
    steps = min(3 * bptt, 8)
    short = make_sessions([[(3 * lane + 2 * step) % 7 for step in range(steps + 1 - lane % 2)] for lane in range(3)])
    trainer = make_trainer(short, **parameters)
    weights = {name: weight.double() for name, weight in trainer.network.weights.items()}
    trainer.network = Network(short.num_items, trainer.hyperparameters, weights)
    before = {name: weight.clone() for name, weight in weights.items()}
    drawn = record_draws(trainer)
    trainer.train_epoch()
    if trainer.hyperparameters.num_negatives == "all":
        drawn = [torch.empty(0, dtype=torch.int64)] * -(-steps // bptt)
    naive = NaiveTrainer(trainer.hyperparameters, short, before, drawn, gru_steps, window_loss).run()
    torch.testing.assert_close(trainer.network.weights, naive.weights, rtol=1e-8, atol=1e-10)


# --- what an epoch reports -------------------------------------------------------------------------------------------


def test_result_counts_epochs_and_targets(log):
    trainer = make_trainer(log)
    results = [trainer.train_epoch() for _ in range(2)]
    assert [result.epoch for result in results] == [1, 2]
    assert [result.num_targets for result in results] == [sum(len(session) - 1 for session in LOG)] * 2
    assert all(result.seconds >= 0 for result in results)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_target_is_trained_exactly_once_an_epoch(log, monkeypatch, batch_size):
    """The last items too, while lanes drain; sessions are followed to their end, the next one starts from zero."""
    seen, forward = [], Network.forward

    def watched(network, items, starts, hidden, rows_per_step, *rest):
        seen.extend(zip(items.tolist(), starts.tolist(), strict=True))
        return forward(network, items, starts, hidden, rows_per_step, *rest)

    monkeypatch.setattr(Network, "forward", watched)
    trainer = make_trainer(log, batch_size=batch_size)
    score, targets = trainer._score, []

    def watched_score(network, states, given, inputs):
        targets.extend(given.tolist())
        return score(network, states, given, inputs)

    trainer._score = watched_score
    trainer.train_epoch()
    pairs = [(item, target, place == 0) for session in LOG for place, (item, target) in enumerate(pairwise(session))]
    trained = [(item, target, start) for (item, start), target in zip(seen, targets, strict=True)]
    assert sorted(trained) == sorted(pairs)


# --- static shapes, for devices that the host must not wait for ---------------------------------------------------


@pytest.fixture
def static_shapes(monkeypatch):
    monkeypatch.setattr(training, "DistinctRows", partial(DistinctRows, static_shapes=True))


STATIC_CASES = [
    {"loss_fn": loss, "embedding": embedding, "momentum": momentum, "negatives": negatives}
    for loss, momentum in zip(SAMPLED_LOSSES, (0.0, 0.3, 0.0, 0.0, 0.3), strict=True)
    for embedding in ("separate", "tied", "none")
    for negatives in ("shared", "per_target")
]


@pytest.mark.parametrize("parameters", STATIC_CASES, ids=str)
def test_static_shapes_train_the_same_weights(log, monkeypatch, parameters):
    compact = make_trainer(log, **parameters)
    monkeypatch.setattr(training, "DistinctRows", partial(DistinctRows, static_shapes=True))
    static = make_trainer(log, **parameters)
    for trainer in (compact, static):
        trainer.train_epoch()
    torch.testing.assert_close(static.network.weights, compact.network.weights, rtol=1e-4, atol=1e-6)


class OperationLog(TorchDispatchMode):
    """Notes each operation and the shapes of what it returns."""

    WAITING = frozenset({"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default"})

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        returned = function(*args, **(kwargs or {}))
        shapes = [tuple(leaf.shape) for leaf in tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
        self.operations.append((str(function), shapes))
        return returned


@pytest.mark.parametrize("parameters", [*STATIC_CASES, {"clipnorm": 1.0, "dropout": 0.5, "num_layers": 2}], ids=str)
def test_a_step_waits_for_no_value_and_its_shapes_are_always_the_same(log, static_shapes, parameters):
    trainer = make_trainer(log, **parameters)
    hidden = trainer.network.initial_hidden(3)
    seen = []
    for window in range(3):
        with OperationLog() as operations:
            trainer._update(window, [3], hidden)
        seen.append(operations.operations)
    assert seen[1] == seen[2]  # the first makes the optimizer's state and draws the block of negatives
    assert not {function for function, _ in seen[1]} & OperationLog.WAITING


def test_the_log_of_operations_finds_what_waits(log):
    """On a CPU the number of distinct rows is looked at: then the test above must not hold."""
    trainer = make_trainer(log)
    with OperationLog() as operations:
        trainer._update(0, [3], trainer.network.initial_hidden(3))
    assert {function for function, _ in operations.operations} & OperationLog.WAITING


@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_the_two_dropouts_act_in_training_each_on_its_own(log, embedding):
    """With 'none' the embedding's dropout acts on the first layer, so the hidden one needs a second layer."""
    trained = []
    for parameters in ({}, {"dropout_embedding": 0.5}, {"dropout_hidden": 0.5}, {"dropout": 0.5}):
        trainer = make_trainer(log, embedding=embedding, num_layers=2, **parameters)
        trainer.train_epoch()
        trained.append(trainer.network.item_bias.tolist())
    assert all(one != other for place, one in enumerate(trained) for other in trained[:place])


@pytest.mark.parametrize("between", [1, 2, 3, 1000])
def test_loss_is_the_same_however_often_it_is_looked_at(log, monkeypatch, between):
    expected = make_trainer(log).train_epoch().loss
    monkeypatch.setattr(training, "STEPS_BETWEEN_LOSS_CHECKS", between)
    assert make_trainer(log).train_epoch().loss == pytest.approx(expected, rel=1e-12)


# --- learning --------------------------------------------------------------------------------------------------------

CYCLE = [[(start + step) % 8 for step in range(5)] for start in range(8)] * 4


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss_fn": "cross-entropy"},
        {"loss_fn": "cross-entropy", "num_negatives": "all"},
        {"loss_fn": "bpr-max", "bpreg": 0.1, "embedding": "tied"},
        {"loss_fn": "bpr-max", "bpreg": 0.1, "embedding": "none"},
        {"loss_fn": "cross-entropy", "embedding": "none", "num_layers": 2, "bptt": 2},
        {"loss_fn": "cross-entropy", "logq_correction": "refined", "mask_targets": False},
        {"loss_fn": "top1-max", "bptt": 2},
        {"loss_fn": "bpr", "negatives": "per_target"},
        {"loss_fn": "cross-entropy", "optimization_algorithm": "sgd", "momentum": 0.9, "learning_rate": 0.3},
    ],
    ids=str,
)
def test_a_cycle_of_items_is_learned(make_sessions, parameters):
    cycle = make_sessions(CYCLE)
    wide = {"hidden_size": 16, "num_components": 16, "batch_size": 4, "num_negatives": 8}
    trainer = make_trainer(cycle, **{**wide, **parameters})
    losses = [trainer.train_epoch().loss for _ in range(15)]
    assert losses[-1] < 0.8 * losses[0]
    assert trainer.validate(cycle, ["recall@1", "mrr@20"]) == pytest.approx({"recall@1": 1.0, "mrr@20": 1.0}, abs=0.02)


def test_validate_needs_no_training_and_changes_nothing(log):
    trainer = make_trainer(log)
    before = bits(trainer)
    metrics = trainer.validate(log)
    assert list(metrics) == ["recall@20", "mrr@20"]
    assert metrics["recall@20"] == 1.0  # of 7 items each is among the first 20
    assert bits(trainer) == before
    assert trainer.train_epoch().epoch == 1


def test_longer_windows_train_other_weights(log):
    short, long = make_trainer(log), make_trainer(log, bptt=2)
    assert bits(short) == bits(long)
    short.train_epoch(), long.train_epoch()
    assert all(map(bytes.__ne__, bits(short).values(), bits(long).values()))


# --- the same bits ---------------------------------------------------------------------------------------------------

NOISY = [
    {"dropout": 0.3, "momentum": 0.5},
    {"dropout_embedding": 0.2, "optimization_algorithm": "sgd", "momentum": 0.9, "num_layers": 2, "bptt": 2},
    {"loss_fn": "bpr-max", "negatives": "per_target", "embedding": "tied", "dropout_hidden": 0.5},
    {"loss_fn": "cross-entropy", "embedding": "none", "dropout_embedding": 0.3, "momentum": 0.5, "bptt": 2},
    {"embedding": "none", "dropout": 0.3, "num_layers": 2, "logq_correction": "refined", "loss_fn": "cross-entropy"},
]


@pytest.mark.parametrize("parameters", NOISY, ids=str)
def test_seed_decides_every_bit(log, parameters):
    trainers = [make_trainer(log, seed, **parameters) for seed in (1, 1, 2)]
    first, again, other = ([trainer.train_epoch().loss for _ in range(2)] for trainer in trainers)
    assert first == again
    assert bits(trainers[0]) == bits(trainers[1])
    assert not set(first) & set(other)
    assert all(map(bytes.__ne__, bits(trainers[0]).values(), bits(trainers[2]).values()))


def test_the_global_generators_are_neither_used_nor_moved(log):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = make_trainer(log, dropout=0.3)
    one.train_epoch()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    other = make_trainer(log, dropout=0.3)
    other.train_epoch()
    assert bits(one) == bits(other)


def test_large_draws_per_target_are_reproducible_with_two_threads(make_sessions):
    """The default batch of 512 with 50 negatives per target has 26,112 rows, enough for torch to go parallel."""
    threads = torch.get_num_threads()
    sessions = make_sessions([[2 * first, 2 * first + 1] for first in range(2048)])
    torch.set_num_threads(2)
    try:
        trained = []
        for _ in range(3):
            trainer = make_trainer(
                sessions, negatives="per_target", num_negatives=50, batch_size=512, hidden_size=16, clipnorm=1e-3
            )
            trainer.train_epoch()
            trained.append(bits(trainer))
    finally:
        torch.set_num_threads(threads)
    assert all(weights == trained[0] for weights in trained)


@pytest.mark.parametrize("parameters", NOISY, ids=str)
def test_going_on_from_a_state_equals_never_having_stopped(log, parameters):
    uninterrupted = make_trainer(log, **parameters)
    expected = [uninterrupted.train_epoch() for _ in range(4)]

    first = make_trainer(log, **parameters)
    first.train_epoch(), first.train_epoch()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make_trainer(log, seed=99, **parameters)  # nothing may hang on the seed any more
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [(r.epoch, r.loss) for r in (second.train_epoch(), second.train_epoch())] == [
        (r.epoch, r.loss) for r in expected[2:]
    ]
    assert bits(second) == bits(uninterrupted)


def test_state_is_a_copy(log):
    trainer = make_trainer(log, momentum=0.5, dropout=0.3)
    trainer.train_epoch()
    state = trainer.state_dict()
    trainer.train_epoch()
    expected = bits(trainer)
    for _ in range(2):  # going on from the state must not change it either
        trainer.load_state_dict(state)
        trainer.train_epoch()
        assert bits(trainer) == expected


# --- no negatives drawn ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bptt", "num_targets"),
    # Rows per step are 2 1 1 1 1; a window that is a single row has no other target to compete with.
    [(1, 2), (2, 5), (3, 6), (4, 5)],
)
def test_without_drawn_negatives_the_last_row_alone_is_skipped(make_sessions, bptt, num_targets):
    sessions = make_sessions([[0, 1, 2, 3, 4, 5], [5, 4]])
    result = make_trainer(sessions, num_negatives=0, batch_size=2, bptt=bptt, loss_fn="bpr-max").train_epoch()
    assert result.num_targets == num_targets
    assert 0 < result.loss < 10


@pytest.mark.parametrize("loss_fn", SAMPLED_LOSSES)
def test_rows_whose_only_candidates_are_their_own_target_change_nothing(make_sessions, loss_fn):
    sessions = make_sessions([[0, 2], [1, 2]])
    trainer = make_trainer(sessions, num_negatives=0, batch_size=2, loss_fn=loss_fn)
    before = bits(trainer)
    assert trainer.train_epoch().loss == pytest.approx(0.0, abs=1e-6)
    assert bits(trainer) == before


# --- what cannot be trained ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clipnorm", [None, 1.0])
@pytest.mark.parametrize("loss_fn", SAMPLED_LOSSES)
def test_divergence_names_its_place_and_the_rate(log, loss_fn, clipnorm):
    absurd = {"optimization_algorithm": "sgd", "learning_rate": 1e30, "momentum": 0.5, "embedding": "tied"}
    with pytest.raises(
        DivergedError,
        match=r"^loss became (nan|inf) in epoch 1, mini-batch \d+ \(learning_rate=1e\+30, momentum=0.5\); "
        r"hint: lower learning_rate or momentum$",
    ):
        make_trainer(log, loss_fn=loss_fn, clipnorm=clipnorm, **absurd).train_epoch()


@pytest.mark.parametrize("between", [1, 2, 1000])
def test_divergence_names_the_first_bad_mini_batch(log, monkeypatch, between):
    monkeypatch.setattr(training, "STEPS_BETWEEN_LOSS_CHECKS", between)
    trainer = make_trainer(log)
    trainer.train_epoch()
    score, calls = trainer._score, []

    def spoiled(*arguments):
        calls.append(None)
        scored = score(*arguments)
        return scored._replace(loss=scored.loss * (math.nan if len(calls) >= 3 else 1.0))

    trainer._score = spoiled
    with pytest.raises(DivergedError, match="loss became nan in epoch 2, mini-batch 3 "):
        trainer.train_epoch()


def test_sessions_of_one_event_cannot_be_trained(make_sessions):
    with pytest.raises(DataError) as caught:
        make_trainer(make_sessions([[0], [1], [0]]))
    assert str(caught.value) == (
        "no session of the training log has two events or more (3 sessions); "
        "hint: is --session-key the column of the visit, not of the event?"
    )


def test_items_that_never_occur_are_refused(log):
    with pytest.raises(DataError, match=r"vocabulary holds items that never occur in it; use with_own_items\(\)"):
        make_trainer(replace(log, items=ItemVocabulary(np.arange(8))))


# --- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (2.5, [[1.5, 0.0], [2.0]]),  # the common norm of (3, 0) and (4) is 5
        (0.5, [[0.3, 0.0], [0.4]]),
        (5.0, [[3.0, 0.0], [4.0]]),
        (7.0, [[3.0, 0.0], [4.0]]),
    ],
)
def test_clip_norm_bounds_the_common_norm(bound, expected):
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    clip_norm(gradients, bound)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.tolist() == pytest.approx(wanted, rel=1e-6)


def test_clip_norm_leaves_small_gradients_bit_for_bit():
    gradients = [torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1])]
    before = [gradient.clone() for gradient in gradients]
    clip_norm(gradients, 100.0)
    assert all(map(torch.equal, gradients, before))


def test_clip_norm_of_zero_gradients_is_zero():
    gradients = [torch.zeros(3)]
    clip_norm(gradients, 1.0)
    assert gradients[0].tolist() == [0.0, 0.0, 0.0]
