"""`NegativeSampler` against its formula: item i is drawn with probability counts[i] ** alpha / sum."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from gru4rec.data.negatives import DRAWS_PER_BLOCK, NegativeSampler, alias_table

COUNTS = [1, 20, 3, 7, 100]
NUM_DRAWS = 200_000


def make_sampler(counts=COUNTS, alpha=0.75, seed=7):
    return NegativeSampler(torch.tensor(counts), alpha, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("alpha", "weights"),
    [
        (0.0, [1, 1, 1, 1, 1]),
        (0.5, [1, 20**0.5, 3**0.5, 7**0.5, 10]),
        (1.0, [1, 20, 3, 7, 100]),
    ],
)
def test_frequencies_follow_popularity_to_the_power_of_alpha(alpha, weights):
    drawn = torch.bincount(make_sampler(alpha=alpha).draw(NUM_DRAWS), minlength=len(weights)).tolist()
    expected = [NUM_DRAWS * weight / sum(weights) for weight in weights]
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in zip(drawn, expected, strict=True))
    assert statistic < chi2.ppf(0.9999, df=len(weights) - 1)


@settings(max_examples=100, deadline=None)
@given(weights=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=40))
def test_parts_kept_and_parts_left_to_others_add_up_to_the_weights(weights):
    kept, alias = alias_table(torch.tensor(weights, dtype=torch.float64))
    assert kept.min() >= 0.0 and kept.max() <= 1.0
    shares = kept.tolist()
    for place, item in enumerate(alias.tolist()):
        shares[item] += 1.0 - kept[place].item()
    total = sum(weights)
    assert shares == pytest.approx([len(weights) * weight / total for weight in weights], rel=1e-9, abs=1e-9)


def test_alias_table_by_hand():
    """Shares 0.2, 1.6, 0.4, 1.8: item 1 gives 0.8 to item 0, so 3 gives 0.2 to it; then 0.6 to item 2."""
    kept, alias = alias_table(torch.tensor([1.0, 8.0, 2.0, 9.0], dtype=torch.float64))
    assert kept.tolist() == pytest.approx([0.2, 0.8, 0.4, 1.0])
    assert alias[:3].tolist() == [1, 3, 3]


def test_a_draw_falls_on_the_kept_part_or_on_the_alias(monkeypatch):
    # Shares 0.4 and 1.6: the first half of the line is item 0 up to 0.2, then item 1.
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([0.0, 0.199, 0.2, 0.49, 0.5], dtype=torch.float64))
    assert make_sampler([2, 8], alpha=1.0).draw(5).tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("counts", [[0, 3, 1], [3, 0, 1], [3, 1, 0]])
def test_an_item_without_events_is_never_drawn(counts):
    drawn = torch.bincount(make_sampler(counts).draw(NUM_DRAWS), minlength=3)
    assert [number > 0 for number in drawn.tolist()] == [count > 0 for count in counts]


def test_a_single_item_is_always_drawn():
    assert make_sampler([4]).draw(3).tolist() == [0, 0, 0]


def test_draws_go_through_the_block_without_gaps_or_repeats():
    sampler = make_sampler()
    pieces = torch.cat([sampler.draw(count) for count in (5, 1, 300)])
    assert torch.equal(pieces, make_sampler().draw(306))


def test_same_generator_state_gives_same_draws_after_start_epoch():
    generator = torch.Generator().manual_seed(1)
    sampler = NegativeSampler(torch.tensor(COUNTS), 0.75, generator)
    sampler.draw(10)
    state = generator.get_state()
    sampler.start_epoch()
    first = sampler.draw(1000)
    sampler.draw(17)
    generator.set_state(state)
    sampler.start_epoch()
    assert torch.equal(sampler.draw(1000), first)


def test_start_epoch_forgets_the_rest_of_the_block():
    whole = make_sampler().draw(2000)
    sampler = make_sampler()
    sampler.draw(1000)
    sampler.start_epoch()
    assert not torch.equal(sampler.draw(1000), whole[1000:])


def test_other_seeds_give_other_draws():
    assert not torch.equal(make_sampler(seed=1).draw(1000), make_sampler(seed=2).draw(1000))


def test_more_draws_than_a_block_holds():
    count = DRAWS_PER_BLOCK + 1
    sampler = make_sampler([1, 1])
    drawn = sampler.draw(count)
    assert (drawn.shape, drawn.dtype) == ((count,), torch.int64)
    # The half of fair flips, give or take six standard deviations.
    assert abs(drawn.sum().item() - count / 2) < 6 * (count / 4) ** 0.5
    assert sampler.draw(3).shape == (3,)


def test_drawing_nothing_gives_an_empty_tensor():
    assert make_sampler().draw(0).shape == (0,)
