"""The body of a request -> a checked object. Whatever the bytes are, it is that or a `Refusal`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gru4rec.errors import unknown_name
from gru4rec.files import first_line
from serving.refusals import Refusal, bad_value

FIELDS = ("items", "sessions", "k", "exclude_seen")
DEFAULT_K = 20

ItemId = int | str


@dataclass(frozen=True)
class Limits:
    """How much one request, and all that wait at once, may ask of a replica.

    Parameters
    ----------
    max_body_bytes : int
    max_items : int
        Items of a session.
    max_sessions : int
        Sessions of a request.
    max_k : int
        Recommendations per session.
    max_in_flight : int
        Requests that a replica has accepted and not answered yet.
    timeout_s : float
        Seconds until a request that is not answered is given up.
    """

    max_body_bytes: int = 1 << 20
    max_items: int = 1000
    max_sessions: int = 128
    max_k: int = 1000
    max_in_flight: int = 256
    timeout_s: float = 10.0


@dataclass(frozen=True)
class RecommendRequest:
    """What is to be recommended.

    Parameters
    ----------
    sessions : sequence of sequence of int or str
        The item ids of each session, in order.
    k : int
    exclude_seen : bool
    single : bool
        Whether it was one session, as `items`, and not a list of them.
    """

    sessions: Sequence[Sequence[ItemId]]
    k: int
    exclude_seen: bool
    single: bool


def parse_recommend(body: bytes, limits: Limits) -> RecommendRequest:
    """Read `{"items": [...]}` or `{"sessions": [[...], ...]}`, with `k` and `exclude_seen` where they are given.

    Raises
    ------
    Refusal
        400 for what is no JSON, 422 for values that are not as they should be.
    """
    content = _parse_object(body, FIELDS)
    given = [name for name in ("items", "sessions") if name in content]
    if len(given) != 1:
        found = " and ".join(given) or "neither"
        raise Refusal(422, "invalid_value", f"a request has either items or sessions, got {found}")
    sessions = [content["items"]] if given == ["items"] else _check_list(content, "sessions", limits.max_sessions)
    for number, items in enumerate(sessions):
        _check_items(items, "items" if given == ["items"] else f"sessions[{number}]", limits.max_items)
    k, exclude_seen = content.get("k", DEFAULT_K), content.get("exclude_seen", False)
    if type(k) is not int or not 1 <= k <= limits.max_k:
        raise bad_value("k", k, f"a whole number from 1 to {limits.max_k}")
    if not isinstance(exclude_seen, bool):
        raise bad_value("exclude_seen", exclude_seen, "true or false")
    return RecommendRequest(sessions, k, exclude_seen, given == ["items"])


def parse_swap(body: bytes) -> str:
    """Read `{"model": "/path/of/a/folder"}`.

    Raises
    ------
    Refusal
        400 for what is no JSON, 422 for values that are not as they should be.
    """
    path = _parse_object(body, ("model",)).get("model")
    if not isinstance(path, str) or not path or "\0" in path:
        raise bad_value("model", path, "the path of a model folder")
    return path


def _parse_object(body: bytes, fields: Sequence[str]) -> dict[str, Any]:
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"the body is not JSON: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise bad_value("the body", content, "an object")
    for name in content:
        if name not in fields:
            raise Refusal(422, "unknown_field", unknown_name(name[:100], fields, "field"), {"field": name[:100]})
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check_list(content: dict[str, Any], name: str, most: int) -> list[Any]:
    value = content[name]
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        found = f"{len(value)} of them" if isinstance(value, list) else value
        raise bad_value(name, found, f"a list of 1 to {most} sessions")
    return value


def _check_items(items: Any, name: str, most: int) -> None:
    if not isinstance(items, list):
        raise bad_value(name, items, "a list of item ids")
    if len(items) > most:
        raise bad_value(name, f"{len(items)} of them", f"a list of at most {most} item ids")
    for number, item in enumerate(items):
        if type(item) is not int and type(item) is not str:
            raise bad_value(f"{name}[{number}]", item, "an item id: a whole number or text")
