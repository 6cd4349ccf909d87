"""TensorBoard's own reader finds each trial's curve once, although the search was killed on the way."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_curves_are_whole(shown):
    for trial, lines in shown.epochs().items():
        events = EventAccumulator(str(shown.path / f"tensorboard/trial-{trial:05d}"))
        events.Reload()
        assert {"recall@20", "mrr@20", "ndcg@20", "loss", "best"} <= set(events.Tags()["scalars"])
        curve = [(event.step, event.value) for event in events.Scalars("recall@20")]
        assert curve == [(line["epoch"], pytest.approx(line["recall@20"])) for line in lines]
        assert events.PluginTagToContent("hparams").keys() >= {"_hparams_/session_start_info"}
