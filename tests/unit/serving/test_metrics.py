"""The figures, read back by Prometheus' own parser."""

from __future__ import annotations

import pytest

from serving.metrics import Metrics, render

prometheus = pytest.importorskip("prometheus_client.parser")


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in prometheus.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_of_two_replicas_add_up():
    one, other = Metrics(), Metrics()
    for metrics, times in ((one, 3), (other, 4)):
        for _ in range(times):
            metrics.add("gru4rec_requests_total", route="/recommend", status="200")
    read = samples(render({"a": one, "b": other}))
    values = {key[1]: value for key, value in read.items() if key[0] == "gru4rec_requests_total"}
    assert values == {("replica", "a"): 3, ("replica", "b"): 4}


def test_buckets_count_all_values_up_to_their_bound():
    metrics = Metrics()
    for seconds in (0.0005, 0.01, 0.011, 99.0):
        metrics.observe("gru4rec_request_seconds", seconds, route="/recommend")
    read = samples(render({"a": metrics}))
    at = {dict(key[1:])["le"]: value for key, value in read.items() if key[0] == "gru4rec_request_seconds_bucket"}
    assert (at["0.001"], at["0.01"], at["0.02"], at["10.0"], at["+Inf"]) == (1, 2, 3, 3, 4)
    labels = (("replica", "a"), ("route", "/recommend"))
    assert read["gru4rec_request_seconds_count", *labels] == 4
    assert read["gru4rec_request_seconds_sum", *labels] == pytest.approx(99.0215)


def test_any_text_can_be_a_label():
    metrics = Metrics()
    metrics.add("gru4rec_model_info", digest="d", folder='a"b\\c\nd')
    ((key, value),) = samples(render({"a": metrics})).items()
    assert (dict(key[1:])["folder"], value) == ('a"b\\c\nd', 1)


def test_each_family_is_described_once():
    metrics = Metrics()
    metrics.add("gru4rec_in_flight")
    assert render({"a": metrics, "b": metrics}).count("# TYPE gru4rec_in_flight gauge\n") == 1
