"""The exception tree, and the text for a misspelt name."""

from __future__ import annotations

import pickle

import pytest

from gru4rec import errors


@pytest.mark.parametrize(
    ("name", "bases", "exit_code"),
    [
        ("GRU4RecError", [Exception], 1),
        ("ParameterError", [errors.GRU4RecError, ValueError], 2),
        ("DataError", [errors.GRU4RecError, ValueError], 1),
        ("ModelFolderError", [errors.GRU4RecError], 1),
        ("DivergedError", [errors.GRU4RecError], 1),
        ("SearchError", [errors.GRU4RecError], 1),
        ("SpecificationError", [errors.SearchError], 2),
        ("ClusterError", [errors.GRU4RecError], 3),
    ],
)
def test_error_tree(name, bases, exit_code):
    error = getattr(errors, name)
    assert all(issubclass(error, base) for base in bases)
    assert error("what").exit_code == exit_code


def test_the_tree_in_the_docstring_is_complete():
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes == {word for word in errors.__doc__.split() if word.endswith("Error") and word != "ValueError"} | {
        "GRU4RecError"
    }


def test_hint_follows_the_message():
    assert str(errors.DataError("no rows", "is the file empty?")) == "no rows; hint: is the file empty?"
    assert str(errors.DataError("no rows")) == "no rows"


def test_error_survives_the_way_to_another_process():
    error = errors.DivergedError("loss became nan", "lower learning_rate")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.DivergedError
    assert str(copy) == "loss became nan; hint: lower learning_rate"


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("recal", ["recall", "mrr"], "unknown metric 'recal'; did you mean 'recall'?"),
        ("RECALL", ["recall", "mrr"], "unknown metric 'RECALL'; known: recall, mrr"),
        ("mr", {"recall": 1, "mrr": 2}, "unknown metric 'mr'; did you mean 'mrr'?"),
        ("bpr-mx", ("bpr", "bpr-max", "top1-max"), "unknown metric 'bpr-mx'; did you mean 'bpr-max'?"),
        ("x", (), "unknown metric 'x'; known: "),
    ],
)
def test_unknown_name_tells_the_nearest_or_all(name, known, text):
    assert errors.unknown_name(name, known, "metric") == text
