"""Recommendations against torch.nn.GRUCell and a full sort, one session at a time, in double precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec import evaluation, top_items
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.errors import DataError, DivergedError, ParameterError
from gru4rec.model import Model
from gru4rec.nn.network import Network

KNOWN = [30, 10, 50, 20, 40]  # in the order of the item index
EVENTS = st.lists(st.lists(st.sampled_from([*KNOWN, 98, 99]), min_size=1, max_size=6), min_size=1, max_size=8)


@pytest.fixture(scope="session")
def make_double(make_model):
    """A function: a model of double precision, so that the order of its scores leaves no doubt."""

    def make(item_ids=KNOWN, **parameters):
        single = make_model(item_ids, **parameters)
        weights = {name: weight.double() for name, weight in single.network.weights.items()}
        return Model(Network(len(item_ids), single.hyperparameters, weights), single.items)

    return make


@pytest.fixture(scope="session")
def trained(make_double):
    return make_double()


@pytest.fixture(scope="session")
def slow_scores(gru_steps):
    """A function: the score of each item id of the model after the session's items."""

    def scores(model, session):
        weights, ids = model.network.weights, model.items.ids.tolist()
        states = weights.get("input_table", weights["output_table"])[[ids.index(item) for item in session]]
        starts = torch.tensor([True] + [False] * (len(session) - 1))
        for layer in range(model.hyperparameters.num_layers):
            parts = [weights[f"gru.{layer}.{part}"] for part in ("input", "recurrent", "input_bias", "recurrent_bias")]
            none = torch.zeros(1, model.hyperparameters.hidden_size, dtype=torch.float64)
            states, _ = gru_steps(parts, states, starts, none, [1] * len(session))
        values = weights["output_table"] @ states[-1].detach() + weights["item_bias"]
        return dict(zip(ids, values.tolist(), strict=True))

    return scores


@pytest.fixture(scope="session")
def slow_rows(slow_scores):
    """A function: the rows (session, rank, item, score) of all sessions, by sorting all items."""

    def rows(model, sessions, k, exclude_seen=False):
        found = []
        for number, events in enumerate(sessions):
            session = [item for item in events if item in model.items.ids.tolist()]
            if session:
                scores = slow_scores(model, session)
                best = sorted(scores, key=scores.get, reverse=True)
                best = [item for item in best if not (exclude_seen and item in session)][:k]
                found += [(number, rank, item, scores[item]) for rank, item in enumerate(best, start=1)]
        return found

    return rows


def assert_rows(table, rows):
    assert list(table.columns) == ["session", "rank", "item", "score", "source"]
    assert set(table["source"]) <= {"model"}
    assert list(table.index) == list(range(len(rows)))
    assert list(table[["session", "rank", "item"]].itertuples(index=False, name=None)) == [row[:3] for row in rows]
    assert table["score"].tolist() == pytest.approx([row[3] for row in rows], rel=1e-6)


# --- recommend -------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    sessions=EVENTS,
    k=st.integers(1, 8),
    exclude_seen=st.booleans(),
    sessions_at_once=st.sampled_from([1, 2, 512]),
    tile=st.sampled_from([(1, 1), (1, 2), (2, 4), (3, 1 << 20), (256, 12)]),
)
def test_recommendations_equal_a_slow_reference(
    make_sessions, trained, slow_rows, sessions, k, exclude_seen, sessions_at_once, tile
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SESSIONS_AT_ONCE", sessions_at_once)
        patch.setattr(top_items, "ROWS_PER_TILE", tile[0])
        patch.setattr(top_items, "SCORES_PER_TILE", tile[1])
        result = trained.recommend(make_sessions(sessions), k, exclude_seen)
    assert_rows(result.table, slow_rows(trained, sessions, k, exclude_seen))
    unknown = [[item for item in session if item not in KNOWN] for session in sessions]
    assert result.num_unknown_events == sum(map(len, unknown))
    silent = [n for n, session in enumerate(sessions) if len(unknown[n]) == len(session)]
    assert result.sessions_without_known_items.tolist() == silent


@pytest.mark.parametrize("parameters", [{"embedding": "tied"}, {"num_layers": 2}], ids=str)
def test_other_networks(make_sessions, make_double, slow_rows, parameters):
    other, sessions = make_double(**parameters), [[10, 20, 30], [40]]
    assert_rows(other.recommend(make_sessions(sessions), 3).table, slow_rows(other, sessions, 3))


def test_twenty_items_unless_said_otherwise(make_sessions, make_double):
    large = make_double(range(30))
    assert large.recommend(make_sessions([[3]])).table["rank"].tolist() == list(range(1, 21))


def test_more_than_the_catalogue_gives_the_catalogue(make_sessions, trained):
    table = trained.recommend(make_sessions([[10]]), k=10**9).table
    assert sorted(table["item"]) == sorted(KNOWN)


def test_a_session_that_has_seen_everything_gets_nothing(make_sessions, trained, slow_rows):
    sessions = [KNOWN, [10, 20]]
    table = trained.recommend(make_sessions(sessions), exclude_seen=True).table
    assert_rows(table, slow_rows(trained, sessions, 20, exclude_seen=True))
    assert set(table["session"]) == {1}


def test_text_ids_come_back_as_they_were(make_sessions, make_double, slow_rows):
    texts = ["007", "ä", "7", "x,y", "z"]
    table = make_double(texts).recommend(make_sessions([["7", "ä"], ["z"]], session_ids=["one", "two"]), k=5).table
    assert table["session"].tolist() == ["one"] * 5 + ["two"] * 5
    wanted = slow_rows(make_double(texts), [["7", "ä"], ["z"]], 5)
    assert table["item"].tolist() == [item for _, _, item, _ in wanted]


def test_integers_and_their_text_are_the_same_item(make_sessions, trained):
    as_text = trained.recommend(make_sessions([["10", "20"]]), k=3)
    as_numbers = trained.recommend(make_sessions([[10, 20]]), k=3)
    assert as_text.num_unknown_events == 0
    assert as_text.table.equals(as_numbers.table)


def test_sessions_keep_their_order_and_ids(make_sessions, trained):
    ids = ["short", "long", "unknown", "again", "again"]
    sessions = make_sessions([[10], [10, 20, 30, 40], [99], [20, 30], [50]], session_ids=ids)
    result = trained.recommend(sessions, k=1)
    assert result.table["session"].tolist() == ["short", "long", "again", "again"]
    assert result.sessions_without_known_items.tolist() == ["unknown"]


def test_a_log_of_unknown_items_gives_an_empty_table(make_sessions, trained):
    result = trained.recommend(make_sessions([[98], [99, 98]]), k=2)
    assert_rows(result.table, [])
    assert (result.num_unknown_events, result.sessions_without_known_items.tolist()) == (3, [0, 1])


def test_the_log_and_the_model_are_left_alone(make_sessions, trained):
    sessions = make_sessions([[10, 99, 20], [30]])
    arrays = (sessions.item_index, sessions.offsets, sessions.session_ids, sessions.items.ids)
    before = [array.copy() for array in arrays], {n: w.clone() for n, w in trained.network.weights.items()}
    trained.recommend(sessions, k=2, exclude_seen=True)
    assert all(map(np.array_equal, arrays, before[0]))
    assert all(torch.equal(trained.network.weights[name], weight) for name, weight in before[1].items())


@pytest.mark.parametrize("k", [0, -1])
def test_at_least_one_item(make_sessions, trained, k):
    with pytest.raises(ParameterError, match=f"^k must be a whole number >= 1, got {k}$"):
        trained.recommend(make_sessions([[10]]), k)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("scores_per_tile", [1, 1 << 20])
def test_scores_that_are_not_finite_are_an_error(make_sessions, make_double, monkeypatch, scores_per_tile, bad):
    monkeypatch.setattr(top_items, "SCORES_PER_TILE", scores_per_tile)
    spoiled = make_double()
    spoiled.network.item_bias[2] = bad
    with pytest.raises(DivergedError, match="scores are not finite"):
        spoiled.recommend(make_sessions([[10]]), k=2)


# --- sessions without a known item ----------------------------------------------------------------------------------

SUPPORT = np.array([3, 9, 1, 3, 7])  # of KNOWN: by support 10, 40, then 30 and 20 tied, 50
POPULAR = [(10, 9.0), (40, 7.0), (30, 3.0), (20, 3.0), (50, 1.0)]


@pytest.fixture(scope="session")
def supported(trained):
    return replace(trained, support=SUPPORT)


def test_unknown_and_empty_sessions_get_the_popular_items(make_sessions, supported, trained, slow_rows):
    sessions = make_sessions([[10, 99], [99, 98], [20]], session_ids=["a", "b", "c"])
    empty = replace(sessions, offsets=np.array([0, 2, 4, 4, 5]), session_ids=np.array([*"abxc"], dtype=object))
    result = supported.recommend(empty, k=3)
    rows = [[*row] for row in result.table.itertuples(index=False, name=None)]
    popular = [[rank, item, score, "popular"] for rank, (item, score) in enumerate(POPULAR[:3], start=1)]
    assert rows[3:9] == [[name, *row] for name in "bx" for row in popular]
    of_model = slow_rows(trained, [[10], [20]], 3)
    assert [row[2] for row in rows[:3] + rows[9:]] == [row[2] for row in of_model]
    assert (result.num_unknown_events, result.sessions_without_known_items.tolist()) == (3, ["b", "x"])
    assert list(result.table.index) == list(range(12))


def test_no_popular_items_when_not_wanted_or_not_known(make_sessions, supported, trained):
    sessions = make_sessions([[99]])
    for result in (supported.recommend(sessions, fallback="none"), trained.recommend(sessions)):
        assert_rows(result.table, [])
        assert result.sessions_without_known_items.tolist() == [0]


def test_an_unknown_fallback_is_named(make_sessions, supported):
    message = "^fallback must be 'popular' or 'none', got 'poplar'$"
    with pytest.raises(ParameterError, match=message):
        supported.recommend(make_sessions([[10]]), fallback="poplar")
    with pytest.raises(ParameterError, match=message):
        supported.recommend_items([[10]], fallback="poplar")


# --- a few sessions, and a click at a time ---------------------------------------------------------------------------


def stepped(model, session, k, exclude_seen, fallback):
    state = model.start()
    for item in session:
        state = model.step(state, item)
    return model.top(state, k, session if exclude_seen else (), fallback)


@settings(max_examples=100, deadline=None)
@given(
    sessions=st.lists(st.lists(st.sampled_from([*KNOWN, 98, "10", "x"]), max_size=6), max_size=6),
    k=st.integers(1, 8),
    exclude_seen=st.booleans(),
    fallback=st.sampled_from(["popular", "none"]),
    layers=st.integers(1, 2),
)
def test_steps_and_small_batches_equal_a_slow_reference(
    make_double, slow_rows, sessions, k, exclude_seen, fallback, layers
):
    model = replace(make_double(num_layers=layers), support=SUPPORT)
    ids, scores, sources = model.recommend_items(sessions, k, exclude_seen, fallback)
    assert len(ids) == len(scores) == len(sources) == len(sessions)
    plain = [[10 if item == "10" else item for item in session] for session in sessions]
    rows = slow_rows(model, plain, k, exclude_seen)
    for number, session in enumerate(plain):
        answer = [(item, score) for place, _, item, score in rows if place == number]
        source = "model"
        if not set(session) & set(KNOWN):
            source = fallback
            answer = POPULAR[:k] if fallback == "popular" else []
        for one in ((ids[number], scores[number], sources[number]), stepped(model, session, k, exclude_seen, fallback)):
            assert one[0] == [item for item, _ in answer]
            assert one[1] == pytest.approx([score for _, score in answer], rel=1e-6)
            assert one[2] == source


def test_a_state_can_be_gone_on_from_twice(trained):
    before = trained.step(trained.start(), 10)
    kept = [layer.clone() for layer in before.hidden]
    one, other = trained.step(before, 20), trained.step(before, 30)
    assert trained.top(one) == trained.top(trained.step(before, 20)) != trained.top(other)
    assert all(map(torch.equal, before.hidden, kept))
    assert trained.step(before, 99) is before


def test_popular_items_fill_up_what_is_excluded(supported):
    assert supported.top(supported.start(), 2, exclude=[10, 99, 40]) == ([30, 20], [3.0, 3.0], "popular")


def test_scores_of_a_click_that_are_not_finite_are_an_error(make_double):
    spoiled = make_double()
    spoiled.network.item_bias[2] = float("nan")
    with pytest.raises(DivergedError, match="scores are not finite"):
        spoiled.recommend_items([[10]], k=2)


# --- evaluate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def biased(make_double):
    """A model whose scores are the item bias, whatever the session; by rank: 50, then 10 and 20 tied, 40, 30."""
    still = make_double()
    for weight in still.network.weights.values():
        weight.zero_()
    still.network.item_bias.copy_(torch.tensor([-2.0, 1.0, 3.0, 1.0, 0.0]))
    return still


@pytest.mark.parametrize(
    ("steps", "metrics", "num_targets", "num_tied"),
    [
        # Targets of the known events: 50 10 | 40 | 30, ranks 1 3 | 4 | 5
        ("all", {"recall@3": 2 / 4, "mrr@3": (1 + 1 / 3) / 4, "ndcg@4": (1 + 1 / 2 + 1 / np.log2(5)) / 4}, 4, 1),
        ("last", {"recall@3": 1 / 3, "mrr@3": 1 / 9, "ndcg@4": (1 / 2 + 1 / np.log2(5)) / 3}, 3, 1),
    ],
)
def test_figures_by_hand(make_sessions, biased, steps, metrics, num_targets, num_tied):
    sessions = make_sessions([[20, 50, 99, 10], [98], [30, 40], [10, 98, 30]])
    result = biased.evaluate(sessions, metrics, steps)
    assert result.metrics == pytest.approx(metrics)
    assert (result.num_targets, result.num_unknown_events, result.num_tied) == (num_targets, 3, num_tied)


@pytest.mark.parametrize(
    ("steps", "num_sessions", "num_targets", "num_unknown_targets", "recall"),
    [
        # Raw targets: 50 99 10 | - | 40 | 98 30 | 98. Ranked: 50 10 | 40 | 30, of ranks 1 3 | 4 | 5.
        ("all", 3, 4, 3, 2),
        # Raw: 10 | - | 40 | 30 | 98. Ranked: 10 | 40 | 30.
        ("last", 3, 3, 1, 1),
    ],
)
def test_targets_that_cannot_be_ranked_are_misses(
    make_sessions, biased, steps, num_sessions, num_targets, num_unknown_targets, recall
):
    sessions = make_sessions([[20, 50, 99, 10], [98], [30, 40], [10, 98, 30], [50, 98]])
    result = biased.evaluate(sessions, ["recall@3"], steps)
    assert (result.num_sessions, result.num_targets, result.num_unknown_targets) == (
        num_sessions,
        num_targets,
        num_unknown_targets,
    )
    assert result.metrics == {"recall@3": recall / num_targets}
    assert result.metrics_with_misses == pytest.approx({"recall@3": recall / (num_targets + num_unknown_targets)})


def test_without_unknown_items_nothing_is_missed(make_sessions, trained):
    result = trained.evaluate(make_sessions([[20, 50, 10], [30, 40]]))
    assert (result.num_unknown_targets, result.metrics_with_misses) == (0, result.metrics)


def test_intervals_are_over_sessions(make_sessions, biased):
    # Half of the sessions hit at every step, half miss: the more targets in each, the less that helps.
    sessions = make_sessions([[10, 50, 50, 50, 50], [10, 30, 30, 30, 30]] * 50)
    low, high = biased.evaluate(sessions, ["recall@3"]).intervals["recall@3"]
    # Binomial, of 100 sessions: 0.5 +- 1.96 * 0.05. Of 400 targets it would be half as wide.
    assert (low, high) == (pytest.approx(0.402, abs=0.015), pytest.approx(0.598, abs=0.015))


def test_default_figures_are_at_20(make_sessions, biased):
    assert biased.evaluate(make_sessions([[10, 50]])).metrics == {"recall@20": 1.0, "mrr@20": 1.0, "ndcg@20": 1.0}


def test_nothing_known_to_rank_is_an_error(make_sessions, biased):
    with pytest.raises(DataError, match="no session has two known events or more"):
        biased.evaluate(make_sessions([[10, 99], [98, 99]]))


def test_hyperparameters_are_those_of_the_network(trained):
    assert trained.hyperparameters is trained.network.hyperparameters


def test_vocabulary_of_the_log_does_not_matter(make_sessions, trained):
    sessions = make_sessions([[10, 20]])
    larger = replace(sessions, items=ItemVocabulary(np.array([10, 20, 77])))
    assert trained.recommend(larger, 3).table.equals(trained.recommend(sessions, 3).table)
