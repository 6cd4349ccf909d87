"""The three ways to score against dense scores of all items, row by row, differentiated by autograd."""

from __future__ import annotations

import pytest
import torch

from gru4rec.hyperparameters import SAMPLED_LOSSES, HyperParameters
from gru4rec.nn import picking, products, scoring
from gru4rec.nn.distinct import DistinctRows
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.nn.scoring import make_scorer

NUM_ITEMS, SIZE = 8, 4
COUNTS = torch.tensor([5, 1, 9, 2, 2, 30, 1, 4])
TARGETS = torch.tensor([2, 5, 2, 0, 7])  # 2 is the target of two rows
SHARED = torch.tensor([1, 5, 5, 3, 2, 6])  # draws the targets 5 and 2 again, 5 twice
DISTINCT = [2, 5, 0, 7, 1, 3, 6]  # of TARGETS and SHARED, as they come up
HOW_OFTEN = [3, 3, 1, 1, 1, 1, 1]
PER_TARGET = torch.tensor([1, 2, 3, 6, 6, 0, 2, 2, 1, 5, 0, 4, 7, 3, 3])  # rows 0, 2, 3 and 4 draw their own target


class Scripted:
    """A sampler that draws what it is told."""

    def __init__(self, drawn):
        self.drawn = drawn

    def draw(self, count):
        assert count == len(self.drawn)
        return self.drawn


def make_case(**parameters):
    """Return hyperparameters, a network and states with random weights in double precision."""
    hyperparameters = HyperParameters(**{"hidden_size": SIZE, "num_components": 3, "batch_size": 6, **parameters})
    generator = torch.Generator().manual_seed(8)

    def randn(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    weights = {name: randn(*shape) for name, shape in weight_shapes(NUM_ITEMS, hyperparameters).items()}
    return hyperparameters, Network(NUM_ITEMS, hyperparameters, weights), randn(len(TARGETS), SIZE)


def score(hyperparameters, network, states, drawn, inputs=(), counts=COUNTS, static_shapes=False):
    distinct = DistinctRows(network.num_items, torch.device("cpu"), static_shapes)
    scorer = make_scorer(hyperparameters, counts, Scripted(drawn), distinct)
    return scorer(network, states.clone(), TARGETS[: len(states)], torch.tensor(inputs, dtype=torch.int64))


def padded(weights):
    """Return the weights of columns, of which there is always a multiple of so many."""
    return weights + [0.0] * (-len(weights) % products.COLUMNS)


def by_autograd(window_loss, hyperparameters, network, states, drawn, divisor):
    """Return the loss and the gradients of states, output table and item bias of the loss over `divisor`."""
    leaves = [tensor.clone().requires_grad_() for tensor in (states, network.output_table, network.item_bias)]
    states, table, bias = leaves
    loss = window_loss(hyperparameters, states @ table.T + bias, TARGETS, drawn, COUNTS)
    return loss.detach(), *torch.autograd.grad(loss / divisor, leaves)


def dense(scored):
    """Return loss and gradients of all items."""
    rows = torch.arange(NUM_ITEMS) if scored.touched is None else scored.touched.rows
    table = torch.zeros(NUM_ITEMS, SIZE, dtype=torch.float64).index_add_(0, rows, scored.d_table)
    bias = torch.zeros(NUM_ITEMS, dtype=torch.float64).index_add_(0, rows[: len(scored.d_bias)], scored.d_bias)
    return scored.loss, scored.d_states, table, bias


@pytest.mark.parametrize("static_shapes", [False, True])
@pytest.mark.parametrize("bptt", [1, 3])
@pytest.mark.parametrize(
    ("parameters", "drawn"),
    [({"loss_fn": loss, "negatives": "shared", "num_negatives": 6, "logq": 0.0}, SHARED) for loss in SAMPLED_LOSSES]
    + [
        ({"loss_fn": loss, "negatives": "per_target", "num_negatives": 3, "logq": 0.0}, PER_TARGET)
        for loss in SAMPLED_LOSSES
    ]
    + [({"loss_fn": loss, "num_negatives": 0}, SHARED[:0]) for loss in ("top1-max", "bpr")]
    + [({"loss_fn": "cross-entropy", "num_negatives": "all"}, SHARED[:0])],
    ids=str,
)
def test_loss_and_gradients_equal_autograd(window_loss, parameters, drawn, bptt, static_shapes):
    hyperparameters, network, states = make_case(bptt=bptt, **parameters)
    scored = score(hyperparameters, network, states, drawn, inputs=[3, 4], static_shapes=static_shapes)
    # 5 rows are left of the 6 * bptt that a full window has; the full number divides.
    expected = by_autograd(window_loss, hyperparameters, network, states, drawn, 6 * bptt)
    torch.testing.assert_close(dense(scored), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("static_shapes", [False, True])
@pytest.mark.parametrize("loss_fn", SAMPLED_LOSSES)
def test_negatives_per_target_are_scored_alike_by_either_product(window_loss, monkeypatch, loss_fn, static_shapes):
    hyperparameters, network, states = make_case(loss_fn=loss_fn, negatives="per_target", num_negatives=3, logq=0.0)
    by_product = {}
    for product, distinct_per_pick in {"sparse": 0, "whole": 100}.items():
        monkeypatch.setattr(picking, "DISTINCT_PER_PICK", distinct_per_pick)
        scored = score(hyperparameters, network, states, PER_TARGET, inputs=[3, 4, 4], static_shapes=static_shapes)
        by_product[product] = dense(scored)
    expected = by_autograd(window_loss, hyperparameters, network, states, PER_TARGET, 6)
    torch.testing.assert_close(by_product["sparse"], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(by_product["whole"], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sample_alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("logq", [0.0, 0.4, 1.0])
def test_logq_corrects_shared_cross_entropy(window_loss, logq, sample_alpha):
    hyperparameters, network, states = make_case(
        loss_fn="cross-entropy", num_negatives=6, logq=logq, sample_alpha=sample_alpha
    )
    scored = score(hyperparameters, network, states, SHARED)
    expected = by_autograd(window_loss, hyperparameters, network, states, SHARED, 6)
    torch.testing.assert_close(dense(scored), expected, rtol=1e-10, atol=1e-12)


def expected_counts(rows, sample_alpha):
    """How often each item is expected among the targets of the other rows and six draws."""
    popularity = COUNTS.tolist()
    powers = [count**sample_alpha for count in popularity]
    return [
        (rows - 1) * count / sum(popularity) + 6 * power / sum(powers)
        for count, power in zip(popularity, powers, strict=True)
    ]


@pytest.fixture
def spy(monkeypatch):
    """Put a loss in the scorer's place that notes the scores and candidates that it is given."""
    seen = []

    def loss(scores, candidates):
        seen.append((scores.clone(), candidates))
        return scores.sum(), torch.zeros_like(scores)

    monkeypatch.setattr(scoring, "make_loss", lambda _: loss)
    return seen


@pytest.mark.parametrize("sample_alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("logq", [0.4, 1.0])
def test_refined_logq_divides_negatives_by_expected_counts_and_leaves_the_positive(spy, logq, sample_alpha):
    hyperparameters, network, states = make_case(
        loss_fn="cross-entropy", num_negatives=6, logq=logq, sample_alpha=sample_alpha, logq_correction="refined"
    )
    scorer = make_scorer(hyperparameters, COUNTS, Scripted(SHARED), DistinctRows(NUM_ITEMS, torch.device("cpu")))
    for rows in (5, 2, 1, 5):  # lanes drain, and the next epoch begins with all of them
        scored = scorer(network, states[:rows], TARGETS[:rows], TARGETS[:0])
        expected = expected_counts(rows, sample_alpha)
        entries = [*TARGETS[:rows].tolist(), *SHARED.tolist()]
        weights = [entries.count(item) * expected[item] ** -logq for item in scored.touched.rows.tolist()]
        candidates = spy[-1][1]
        assert candidates.weights[0].tolist() == pytest.approx(padded(weights), rel=1e-12)
        assert candidates.positive_weights.tolist() == [[1.0]] * rows
        assert candidates.own_weights.tolist() == [[0.0]] * rows


def test_expected_counts_are_those_of_many_mini_batches():
    """The formula above against counting: targets come up as often as they occur, draws by the power of it."""
    generator, num_batches = torch.Generator().manual_seed(5), 20_000
    targets = torch.multinomial(COUNTS.double(), 4 * num_batches, replacement=True, generator=generator)
    drawn = torch.multinomial(COUNTS.double() ** 0.5, 6 * num_batches, replacement=True, generator=generator)
    means = torch.bincount(torch.cat([targets, drawn]), minlength=NUM_ITEMS) / num_batches
    assert means.tolist() == pytest.approx(expected_counts(rows=5, sample_alpha=0.5), rel=0.05)


@pytest.mark.parametrize("mask_targets", [True, False])
def test_gradient_of_refined_logq_is_that_of_the_papers_loss(mask_targets):
    """Khrylchenko et al. (RecSys 2025): (1 - P) (log sum_j exp(s'_j) - s_i), with P_i held constant."""
    hyperparameters, network, states = make_case(
        loss_fn="cross-entropy", num_negatives=6, logq_correction="refined", mask_targets=mask_targets
    )
    scored = score(hyperparameters, network, states, SHARED)

    leaves = [tensor.clone().requires_grad_() for tensor in (states, network.output_table, network.item_bias)]
    scores = leaves[0] @ leaves[1].T + leaves[2]
    log_counts = torch.tensor(expected_counts(5, hyperparameters.sample_alpha), dtype=torch.float64).log()
    losses = []
    for row, target in enumerate(TARGETS):
        others = torch.cat([TARGETS[:row], TARGETS[row + 1 :], SHARED])
        if mask_targets:
            others = others[others != target]
        corrected = (scores[row] - log_counts)[others]
        own = scores[row, target]
        share = (own.exp() / (own.exp() + corrected.exp().sum())).detach()
        losses.append((1 - share) * (corrected.exp().sum().log() - own))
    expected = torch.autograd.grad(sum(losses) / 6, leaves)
    torch.testing.assert_close(dense(scored)[1:], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss_fn", SAMPLED_LOSSES)
def test_unmasked_targets_are_negatives_everywhere_but_at_their_own_place(row_loss, loss_fn):
    hyperparameters, network, states = make_case(loss_fn=loss_fn, num_negatives=6, logq=0.0, mask_targets=False)
    scored = score(hyperparameters, network, states, SHARED)
    leaves = [tensor.clone().requires_grad_() for tensor in (states, network.output_table, network.item_bias)]
    scores = leaves[0] @ leaves[1].T + leaves[2]
    loss = sum(
        row_loss(
            loss_fn,
            scores[row, target],
            scores[row, torch.cat([TARGETS[:row], TARGETS[row + 1 :], SHARED])],
            hyperparameters.bpreg,
            hyperparameters.elu_param,
        )
        for row, target in enumerate(TARGETS)
    )
    expected = (loss.detach(), *torch.autograd.grad(loss / 6, leaves))
    torch.testing.assert_close(dense(scored), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "drawn", "columns"),
    [
        ({"num_negatives": 6}, SHARED, len(padded(DISTINCT))),
        ({"num_negatives": 3, "negatives": "per_target"}, PER_TARGET, 1 + 3),
        ({"num_negatives": "all", "loss_fn": "cross-entropy"}, SHARED[:0], 1000),
    ],
    ids=str,
)
def test_only_candidates_are_scored(spy, monkeypatch, parameters, drawn, columns):
    """A thousand items do not make the matrix wider: candidates are chosen before they are scored."""
    hyperparameters = HyperParameters(hidden_size=SIZE, num_components=3, batch_size=6, **parameters)
    shapes = weight_shapes(1000, hyperparameters)
    network = Network(1000, hyperparameters, {name: torch.zeros(shape) for name, shape in shapes.items()})
    if parameters["num_negatives"] != "all":
        monkeypatch.setattr(Network, "scores", lambda *_: pytest.fail("scored every item"))
    score(hyperparameters, network, torch.zeros(5, SIZE), drawn, counts=torch.ones(1000))
    assert [tuple(scores.shape) for scores, _ in spy] == [(5, columns)]


@pytest.mark.parametrize("loss_fn", ["top1", "top1-max", "bpr", "bpr-max"])
def test_logq_is_for_cross_entropy_only(loss_fn):
    scored = []
    for logq in (0.0, 1.0):
        hyperparameters, network, states = make_case(loss_fn=loss_fn, num_negatives=6, logq=logq)
        scored.append(dense(score(hyperparameters, network, states, SHARED)))
    torch.testing.assert_close(scored[0], scored[1], rtol=0, atol=0)


def test_rows_are_distinct_candidates_then_inputs_that_are_none():
    hyperparameters, network, states = make_case(num_negatives=6)
    scored = score(hyperparameters, network, states, SHARED, inputs=[4, 5, 4, 6, 2])
    assert scored.touched.rows.tolist() == [*DISTINCT, 4]
    assert scored.touched.rows[scored.input_places].tolist() == [4, 5, 4, 6, 2]
    assert (len(scored.d_table), len(scored.d_bias)) == (8, 7)
    assert scored.d_table[7].tolist() == [0.0] * SIZE

    hyperparameters, network, states = make_case(num_negatives=3, negatives="per_target")
    scored = score(hyperparameters, network, states, PER_TARGET, inputs=[4, 0])
    assert scored.touched.rows.tolist() == [2, 1, 3, 5, 6, 0, 4, 7]
    assert scored.input_places.tolist() == [6, 5]

    hyperparameters, network, states = make_case(num_negatives="all", loss_fn="cross-entropy")
    scored = score(hyperparameters, network, states, SHARED[:0], inputs=[4, 0])
    assert scored.touched is None
    assert scored.input_places.tolist() == [4, 0]


def test_own_target_is_no_negative_but_everyone_elses_is(spy):
    hyperparameters, network, states = make_case(num_negatives=6)
    score(hyperparameters, network, states, SHARED)
    _, candidates = spy[0]
    assert candidates.positives.flatten().tolist() == [DISTINCT.index(target) for target in TARGETS.tolist()]
    assert candidates.weights.tolist() == [padded(HOW_OFTEN)]
    assert candidates.own_weights.flatten().tolist() == [0.0] * 5


def test_unmasked_own_target_counts_wherever_else_it_comes_up(spy):
    hyperparameters, network, states = make_case(num_negatives=6, mask_targets=False)
    score(hyperparameters, network, states, SHARED)
    _, candidates = spy[0]
    assert candidates.weights.tolist() == [padded(HOW_OFTEN)]
    assert candidates.own_weights.flatten().tolist() == [2.0, 2.0, 2.0, 0.0, 0.0]


def test_weights_and_targets_are_left_alone():
    for parameters, drawn in (
        ({"num_negatives": 6, "loss_fn": "cross-entropy"}, SHARED),
        ({"num_negatives": 3, "negatives": "per_target"}, PER_TARGET),
        ({"num_negatives": "all", "loss_fn": "cross-entropy"}, SHARED[:0]),
    ):
        hyperparameters, network, states = make_case(**parameters)
        kept = [states, TARGETS, drawn, *network.weights.values()]
        before = [tensor.clone() for tensor in kept]
        scorer = make_scorer(hyperparameters, COUNTS, Scripted(drawn), DistinctRows(NUM_ITEMS, torch.device("cpu")))
        scorer(network, states, TARGETS, TARGETS)
        assert all(map(torch.equal, kept, before))
