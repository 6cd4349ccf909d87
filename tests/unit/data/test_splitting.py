"""Splits and filters against boundaries worked out by hand and, for the fixpoint, a slow one-at-a-time reference."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data.splitting import filter_support, split_last_days, split_last_item, split_time_share
from gru4rec.errors import DataError, ParameterError

DAY = 86_400


@pytest.fixture(scope="session")
def starting_at(make_sessions):
    """A function: start times -> Sessions of two events, one second apart."""

    def make(*starts):
        return make_sessions([[1, 2]] * len(starts), times=[[start, start + 1] for start in starts])

    return make


def ids(*parts):
    return [part.session_ids.tolist() for part in parts]


@pytest.mark.parametrize(
    ("days", "train", "test"),
    [
        (1, [0, 1, 2], [3]),
        (2, [0, 1], [2, 3]),
        (1.5, [0, 1], [2, 3]),
        (1 + 1 / DAY, [0, 1, 2], [3]),
        (1 + 2 / DAY, [0, 1], [2, 3]),
    ],
)
def test_last_days_begin_right_after_the_cut(starting_at, days, train, test):
    # The last event is at day 3 + 1 s, so session 2, from day 2, starts exactly 1 day and 1 s before the end.
    sessions = starting_at(0, DAY, 2 * DAY, 3 * DAY)
    assert ids(*split_last_days(sessions, days)) == [train, test]


@pytest.mark.parametrize(
    ("share", "train", "test"), [(0.3, [0, 1, 2], [3]), (0.5, [0, 1, 2], [3]), (0.51, [0, 1], [2, 3])]
)
def test_time_share_counts_from_the_last_event(starting_at, share, train, test):
    # Times span 0 .. 100; a half of them begins at 50, where session 2 starts: not yet in the test part.
    assert ids(*split_time_share(starting_at(0, 10, 50, 99), share)) == [train, test]


def test_a_session_belongs_whole_to_the_part_it_starts_in(make_sessions, unpack):
    sessions = make_sessions([[1, 2], [3, 1]], times=[[0, 95], [90, 100]])
    train, test = split_time_share(sessions, 0.2)
    assert unpack(train) == [(0, [1, 2], [0, 95])]
    assert unpack(test) == [(1, [3, 1], [90, 100])]


def test_both_parts_keep_the_vocabulary(make_sessions):
    sessions = make_sessions([[1, 2], [3, 4]], times=[[0, 1], [9, 10]])
    assert [part.items for part in split_time_share(sessions, 0.5)] == [sessions.items, sessions.items]


@pytest.mark.parametrize(
    ("split", "amount", "what", "part"),
    [
        (split_last_days, 2, "the last 2 days", "train"),
        (split_last_days, 0.00001, "the last 1e-05 days", "test"),
        (split_time_share, 0.000001, "the last 1e-06 of the time", "test"),
    ],
)
def test_an_empty_part_is_an_error(starting_at, split, amount, what, part):
    with pytest.raises(DataError) as error:
        split(starting_at(0, DAY), amount)
    assert str(error.value) == f"splitting off {what} leaves no {part} session (the log spans 86,401 s)"


@pytest.mark.parametrize("days", [0, -1, float("nan")])
def test_days_must_be_positive(starting_at, days):
    with pytest.raises(ParameterError, match=f"^days must be > 0, got {days}$"):
        split_last_days(starting_at(0, DAY), days)


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan")])
def test_share_must_be_inside_0_and_1(starting_at, share):
    with pytest.raises(ParameterError, match=f"^share must be between 0 and 1, got {share}$"):
        split_time_share(starting_at(0, DAY), share)


def test_times_in_ms_are_refused_with_a_hint(starting_at):
    # 40 days of milliseconds, read as seconds, are 40,000 days.
    with pytest.raises(DataError, match=r"the log spans 40,000 days; hint: .* ms, us or ns\? .* --time-unit"):
        split_last_days(starting_at(0, 40 * DAY * 1000), days=1)


def test_last_item_leaves_the_train_part_and_stays_in_the_test_part(make_sessions, unpack):
    train, test = split_last_item(make_sessions([[1, 2, 3], [4], [5, 6]]))
    assert unpack(train) == [(0, [1, 2], [0, 1]), (2, [5], [4])]
    assert unpack(test) == [(0, [1, 2, 3], [0, 1, 2]), (2, [5, 6], [4, 5])]


def drop_one_at_a_time(events, min_support, min_length):
    """Remove the first event or session that breaks a rule, and start again, until none does."""
    sessions = dict(enumerate(events))
    while True:
        support = Counter(item for items in sessions.values() for item in items)
        rare = [(key, item) for key, items in sessions.items() for item in items if support[item] < min_support]
        short = [key for key, items in sessions.items() if len(items) < min_length]
        if rare:
            key, item = rare[0]
            sessions[key] = [other for other in sessions[key] if other != item]
        elif short:
            del sessions[short[0]]
        else:
            return list(sessions.items())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_support_filter_reaches_the_fixpoint(make_sessions, unpack, events, min_support, min_length):
    wanted = drop_one_at_a_time(events, min_support, min_length)
    if wanted:
        kept = filter_support(make_sessions(events), min_support, min_length)
        assert [(key, items) for key, items, _ in unpack(kept)] == wanted
        assert kept.items.ids.tolist() == sorted({item for _, items in wanted for item in items})
    else:
        with pytest.raises(DataError):
            filter_support(make_sessions(events), min_support, min_length)


def test_support_filter_follows_a_chain(make_sessions, unpack):
    # 9 is rare; without it session 0 is too short; without that 1 is rare; and so session 1 goes as well.
    sessions = make_sessions([[9, 1], [1, 2], [2, 3, 3], [2, 3]])
    kept = filter_support(sessions, min_item_support=2)
    assert [(key, items) for key, items, _ in unpack(kept)] == [(2, [2, 3, 3]), (3, [2, 3])]


def test_support_filter_only_drops_single_events_by_default(make_sessions):
    assert ids(filter_support(make_sessions([[1], [2, 3], [4]]))) == [[1]]


def test_nothing_left_is_an_error(make_sessions):
    with pytest.raises(DataError) as error:
        filter_support(make_sessions([[1, 2], [3, 4, 5]]), min_item_support=5, min_session_length=3)
    assert str(error.value) == (
        "no session of at least 3 events is left once items with fewer than 5 events are dropped; "
        "before: 2 sessions, 5 events"
    )
