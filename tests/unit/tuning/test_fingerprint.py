"""What a search that goes on must find unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gru4rec import read_log
from gru4rec.data.synthetic import generate_log
from gru4rec.errors import SearchError
from tuning import fingerprint
from tuning.fingerprint import compare_fingerprint, make_fingerprint, write_fingerprint
from tuning.search_data import SearchData
from tuning.space import Space
from tuning.spec import SearchSpec

SPEC = SearchSpec(Space((), {"batch_size": 16}))


@pytest.fixture(scope="module")
def data():
    log = read_log(generate_log(200, 100, seed=1))
    return SearchData(log, log)


@pytest.fixture
def folder(tmp_path, data):
    write_fingerprint(tmp_path, make_fingerprint(SPEC, data))
    return tmp_path


def test_the_same_search_may_go_on_with_other_budgets(folder, data):
    spec = replace(SPEC, trials=99, time_budget_s=5.0, max_concurrent_trials=7, checkpoint_every=3)
    compare_fingerprint(folder, make_fingerprint(spec, data))


@pytest.mark.parametrize(
    "change", [{"max_epochs": 11}, {"seed": 2}, {"space": Space((), {"batch_size": 17})}, {"cpus_per_trial": 2}]
)
def test_other_settings_are_refused(folder, data, change):
    with pytest.raises(SearchError, match=r"settings was \w+, is \w+; hint: --changed"):
        compare_fingerprint(folder, make_fingerprint(replace(SPEC, **change), data))


@pytest.mark.parametrize("part", ["item_index", "times", "offsets"])
def test_another_log_is_refused(folder, data, part):
    values = getattr(data.train, part).copy()
    values[3] += 1
    changed = replace(data, train=replace(data.train, **{part: values}))
    with pytest.raises(SearchError, match=r"train was \w+, is \w+"):
        compare_fingerprint(folder, make_fingerprint(SPEC, changed))


def test_a_log_that_was_not_there_is_refused(folder, data):
    with pytest.raises(SearchError, match="test was none, is"):
        compare_fingerprint(folder, make_fingerprint(SPEC, replace(data, test=data.train)))


def test_other_code_is_refused(folder, data, monkeypatch):
    monkeypatch.setattr(fingerprint, "_digest_code", lambda: "other")
    with pytest.raises(SearchError, match=r"code was \w+, is other"):
        compare_fingerprint(folder, make_fingerprint(SPEC, data))


def test_a_folder_in_which_no_search_had_begun(tmp_path, data):
    with pytest.raises(SearchError, match=r"has no fingerprint\.json: its search had not begun; hint: remove it"):
        compare_fingerprint(tmp_path, make_fingerprint(SPEC, data))


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000], ids=["empty", "list", "bytes", "deep"])
def test_a_damaged_fingerprint_is_refused(folder, data, content):
    (folder / "fingerprint.json").write_bytes(content)
    with pytest.raises(SearchError, match=r"fingerprint.json cannot be read: .*; hint: --changed goes on without it"):
        compare_fingerprint(folder, make_fingerprint(SPEC, data))
