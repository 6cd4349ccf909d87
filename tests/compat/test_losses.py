"""Our closed-form losses and their gradients, and recpack's losses under autograd, on the same scores."""

from __future__ import annotations

import pytest
import torch
from recpack.algorithms import loss_functions

from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.losses import Candidates, make_loss

PAIRS = {
    "bpr": loss_functions.bpr_loss,
    "bpr-max": loss_functions.bpr_max_loss,  # its regularisation weight is 1 by default
    "top1": loss_functions.top1_loss,
    "top1-max": loss_functions.top1_max_loss,
}


@pytest.mark.parametrize("num_negatives", [1, 2, 50])
@pytest.mark.parametrize("name", PAIRS)
def test_loss_and_gradient(name, num_negatives):
    rows, width = 64, num_negatives + 1
    generator = torch.Generator().manual_seed(num_negatives)
    scores = 2.0 * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    positives = torch.randint(width, (rows,), generator=generator)

    leaf = scores.clone().requires_grad_()
    is_negative = torch.ones_like(scores, dtype=torch.bool).scatter_(1, positives.unsqueeze(1), False)
    theirs = PAIRS[name](leaf.gather(1, positives.unsqueeze(1)), leaf[is_negative].reshape(rows, num_negatives))
    theirs.backward()

    zeros = scores.new_zeros(rows, 1)
    loss = make_loss(HyperParameters(loss_fn=name, bpreg=1.0, elu_param=0.0))
    ours, gradient = loss(scores.clone(), Candidates(positives.unsqueeze(1), None, zeros, torch.ones_like(zeros)))
    assert ours.item() / rows == pytest.approx(theirs.item(), abs=1e-6)  # theirs is the mean over the rows
    torch.testing.assert_close(gradient / rows, leaf.grad, atol=1e-6, rtol=0.0)
