"""The interface, called as a server calls it: ASGI messages in, ASGI messages out."""

from __future__ import annotations

import asyncio
import json

import pytest

from serving.access import digest_of
from serving.http import Interface
from serving.metrics import Metrics
from serving.recommender import Answer
from serving.requests import Limits

TOKEN = b"0123456789abcdef"
LIMITS = Limits(max_body_bytes=100, max_in_flight=2, timeout_s=0.2)
GOOD = b'{"items": [1], "k": 2}'


class EchoService:
    """Recommends the items of a session; the item 'wait' takes for ever, 'fail' raises."""

    def metadata(self):
        return {"model": {}}

    async def recommend(self, request):
        if "wait" in request.sessions[0]:
            await asyncio.sleep(60)
        if "fail" in request.sessions[0]:
            raise RuntimeError("secret of the inside")
        return [Answer(list(session), [0.5] * len(session), "model", 0) for session in request.sessions], "d1"

    async def swap(self, path):
        return {"model": path}

    async def metrics_text(self):
        return "metric 1\n"


def make_interface(token=None):
    return Interface(EchoService(), LIMITS, digest_of(token) if token else None, Metrics())


async def call(interface, method, path, body=b"", headers=(), parts=None):
    """Return status, headers and JSON; `parts` is a body without a length."""
    given = [(name.encode(), value) for name, value in headers]
    if parts is None:
        given.append((b"content-length", str(len(body)).encode()))
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts or [body]) - 1}
        for number, part in enumerate(parts or [body])
    ]
    sent = []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    await interface({"type": "http", "method": method, "path": path, "headers": given}, receive, send)
    start, content = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert found["content-length"] == str(len(content["body"]))
    return start["status"], found, json.loads(content["body"]) if "json" in found["content-type"] else content["body"]


def answer_to(method, path, body=b"", headers=(), token=None, parts=None):
    return asyncio.run(call(make_interface(token), method, path, body, headers, parts))


def test_recommend():
    status, headers, content = answer_to("POST", "/recommend", b'{"items": [7, "x"]}')
    assert status == 200
    assert content == {"items": [7, "x"], "scores": [0.5, 0.5], "source": "model", "unknown": 0}
    assert headers["x-model-digest"] == "d1"


def test_recommend_for_several_sessions():
    status, _, content = answer_to("POST", "/recommend", b'{"sessions": [[7], []]}')
    assert status == 200
    assert [answer["items"] for answer in content["results"]] == [[7], []]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/recommend", b"{", 400, "invalid_json"),
        ("POST", "/recommend", b'{"items": 1}', 422, "invalid_value"),
        ("POST", "/recommend", b'{"itemz": []}', 422, "unknown_field"),
        ("POST", "/recommend", b" " * 101, 413, "too_large"),
        ("POST", "/recommend", b'{"items": ["wait"]}', 503, "timeout"),
        ("POST", "/recommend", b'{"items": ["fail"]}', 500, "internal"),
        ("GET", "/recommend", b"", 405, "method_not_allowed"),
        ("GET", "/recomend", b"", 404, "not_found"),
        ("POST", "/swap", b'{"model": "/m"}', 403, "no_token"),
    ],
)
def test_every_error_is_json_with_its_code(method, path, body, status, code):
    found, _, content = answer_to(method, path, body)
    assert (found, content["error"]["code"]) == (status, code)
    assert "secret" not in json.dumps(content)


def test_a_body_without_a_length_is_read_no_further_than_its_limit():
    parts = [b" " * 60] * 1000
    status, headers, _ = answer_to("POST", "/recommend", parts=parts)
    assert (status, headers["connection"]) == (413, "close")
    assert answer_to("POST", "/recommend", parts=[GOOD[:5], GOOD[5:]])[0] == 200


def test_what_is_too_much_at_once_is_refused_with_a_time_to_come_again():
    async def crowd():
        interface = make_interface()
        waiting = [call(interface, "POST", "/recommend", b'{"items": ["wait"]}') for _ in range(2)]
        tasks = [asyncio.create_task(one) for one in waiting]
        await asyncio.sleep(0.01)
        refused = await call(interface, "POST", "/recommend", GOOD)
        healthy = await call(interface, "GET", "/health")
        await asyncio.gather(*tasks)
        return refused, healthy, await call(interface, "POST", "/recommend", GOOD)

    (status, headers, content), healthy, later = asyncio.run(crowd())
    assert (status, content["error"]["code"], headers["retry-after"]) == (503, "overloaded", "1")
    assert healthy[0] == 200
    assert later[0] == 200


@pytest.mark.parametrize("path", ["/recommend", "/metadata", "/metrics", "/swap", "/nowhere"])
def test_without_the_token_nothing_is_answered_but_health(path):
    for headers in ([], [("authorization", b"Bearer wrong")], [("authorization", b"Basic " + TOKEN)]):
        status, found, content = answer_to("GET", path, headers=headers, token=TOKEN)
        assert (status, content["error"]["code"], found["www-authenticate"]) == (401, "unauthorized", "Bearer")
    assert answer_to("GET", "/health", token=TOKEN)[0] == 200


def test_with_the_token():
    headers = [("authorization", b"Bearer " + TOKEN)]
    assert answer_to("GET", "/metadata", headers=headers, token=TOKEN)[2] == {"model": {}}
    assert answer_to("POST", "/swap", b'{"model": "/m"}', headers, token=TOKEN)[2] == {"model": "/m"}
    status, found, text = answer_to("GET", "/metrics", headers=headers, token=TOKEN)
    assert (status, found["content-type"], text) == (200, "text/plain; version=0.0.4; charset=utf-8", b"metric 1\n")


def test_requests_are_counted_by_route_and_status():
    metrics = Metrics()
    interface = Interface(EchoService(), LIMITS, None, metrics)
    for path, body in (("/recommend", GOOD), ("/recommend", b"{"), ("/nowhere/1", b""), ("/nowhere/2", b"")):
        asyncio.run(call(interface, "POST", path, body))
    counts = {labels: count for (name, labels), count in metrics.numbers.items() if name == "gru4rec_requests_total"}
    assert counts == {
        (("route", "/recommend"), ("status", "200")): 1,
        (("route", "/recommend"), ("status", "400")): 1,
        (("route", "other"), ("status", "404")): 2,
    }
    assert metrics.numbers["gru4rec_in_flight", ()] == 0
