"""Where and how torch computes."""

from __future__ import annotations

import torch

from gru4rec.device import SMALLEST_NORMAL, denormals_as_zero
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer


def half_of_the_smallest():
    return float(torch.full((1,), SMALLEST_NORMAL).div(2))


def test_denormals_are_zero_for_a_while_and_then_as_before():
    assert half_of_the_smallest() > 0
    with denormals_as_zero():
        assert half_of_the_smallest() == 0
        with denormals_as_zero():
            pass
        assert half_of_the_smallest() == 0
    assert half_of_the_smallest() > 0


def test_training_and_validation_count_them_as_zero(make_sessions, monkeypatch):
    log = make_sessions([[0, 1, 2, 3], [1, 2, 0], [3, 1], [2, 0, 3]])
    seen = []
    forward = "gru4rec.nn.network.Network.forward"
    original = Trainer.__init__.__globals__["Network"].forward

    def watched(self, *arguments):
        seen.append(half_of_the_smallest())
        return original(self, *arguments)

    monkeypatch.setattr(forward, watched)
    trainer = Trainer(HyperParameters(hidden_size=4, batch_size=4), log, seed=0)
    trainer.train_epoch()
    in_training = len(seen)
    trainer.validate(log)
    assert len(seen) > in_training > 0
    assert set(seen) == {0.0}
    assert half_of_the_smallest() > 0
