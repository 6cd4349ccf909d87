"""Bodies of requests: what is read of good ones, and what is said of bad ones."""

from __future__ import annotations

import json

import pytest

from serving.refusals import Refusal
from serving.requests import Limits, RecommendRequest, parse_recommend, parse_swap

LIMITS = Limits(max_items=3, max_sessions=2, max_k=50)


def refusal_of(body):
    with pytest.raises(Refusal) as caught:
        parse_recommend(body if isinstance(body, bytes) else json.dumps(body).encode(), LIMITS)
    return caught.value.status, caught.value.content["error"]


def test_one_session_with_defaults():
    request = parse_recommend(b'{"items": [7, "x"]}', LIMITS)
    assert request == RecommendRequest([[7, "x"]], k=20, exclude_seen=False, single=True)


def test_several_sessions():
    request = parse_recommend(b'{"sessions": [[7], []], "k": 50, "exclude_seen": true}', LIMITS)
    assert request == RecommendRequest([[7], []], k=50, exclude_seen=True, single=False)


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        ({"items": [1], "k": 0}, "k", "k must be a whole number from 1 to 50, got 0"),
        ({"items": [1], "k": 51}, "k", "k must be a whole number from 1 to 50, got 51"),
        ({"items": [1], "k": True}, "k", "k must be a whole number from 1 to 50, got True"),
        ({"items": [1], "k": 2.0}, "k", "k must be a whole number from 1 to 50, got 2.0"),
        ({"items": [1], "exclude_seen": 1}, "exclude_seen", "exclude_seen must be true or false, got 1"),
        ({"items": "abc"}, "items", "items must be a list of item ids, got 'abc'"),
        ({"items": [1, 2.5]}, "items[1]", "items[1] must be an item id: a whole number or text, got 2.5"),
        ({"items": [True]}, "items[0]", "items[0] must be an item id: a whole number or text, got True"),
        ({"items": [1, 2, 3, 4]}, "items", "items must be a list of at most 3 item ids, got '4 of them'"),
        ({"sessions": [[1], [None]]}, "sessions[1][0]", None),
        ({"sessions": [1]}, "sessions[0]", "sessions[0] must be a list of item ids, got 1"),
        ({"sessions": []}, "sessions", "sessions must be a list of 1 to 2 sessions, got '0 of them'"),
        ({"sessions": [[], [], []]}, "sessions", "sessions must be a list of 1 to 2 sessions, got '3 of them'"),
        ([1], "the body", "the body must be an object, got [1]"),
    ],
)
def test_a_bad_value_is_named_with_its_field(content, field, message):
    status, error = refusal_of(content)
    assert (status, error["code"], error["field"]) == (422, "invalid_value", field)
    assert message is None or error["message"] == message


def test_an_unknown_field_is_told_with_the_nearest_spelling():
    status, error = refusal_of({"item": [1]})
    assert (status, error["code"]) == (422, "unknown_field")
    assert error["message"] == "unknown field 'item'; did you mean 'items'?"


@pytest.mark.parametrize("content", [{}, {"k": 3}, {"items": [], "sessions": [[]]}])
def test_either_items_or_sessions(content):
    status, error = refusal_of(content)
    assert status == 422
    assert error["message"].startswith("a request has either items or sessions, got ")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"items": [NaN]}', b"\xff", b"[" * 100_000, b'{"items": [' + b"9" * 5000 + b"]}"],
    ids=["empty", "cut", "nan", "not-text", "deep", "long-number"],
)
def test_what_is_no_json_is_a_400(body):
    status, error = refusal_of(body)
    assert (status, error["code"]) == (400, "invalid_json")


def test_a_long_value_does_not_fill_the_answer():
    _, error = refusal_of({"items": "x" * 100_000})
    assert len(json.dumps(error)) < 3_000


def test_swap():
    assert parse_swap(b'{"model": "/models/b"}') == "/models/b"
    for body in (b"{}", b'{"model": 3}', b'{"model": ""}', b'{"model": "a\\u0000b"}'):
        with pytest.raises(Refusal, match=r"^model must be the path of a model folder, got "):
            parse_swap(body)
