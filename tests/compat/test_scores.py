"""A model of recpack's and ours with the same weights score alike; so does a model read from recpack's own file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gru4rec.data.sessions import ItemVocabulary
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network
from gru4rec.recpack_file import load_recpack_model

NUM_ITEMS = 30


@pytest.fixture(params=[1, 2])
def fitted(request, theirs, random_matrix):
    """recpack's estimator with one layer or two, its weights drawn anew so that scores differ clearly."""
    matrix = random_matrix(num_items=NUM_ITEMS)
    estimator = theirs(num_layers=request.param, max_epochs=1, keep_last=True)
    estimator.fit(matrix, (matrix, matrix))
    generator = torch.Generator().manual_seed(request.param)
    with torch.no_grad():
        for weight in estimator.model_.parameters():
            weight.uniform_(-1.0, 1.0, generator=generator)
        estimator.model_.emb.weight[-1] = 0.0
    return estimator


def copied_model(module):
    hyperparameters = HyperParameters(
        num_layers=module.rnn.num_layers, hidden_size=module.hidden_size, num_components=module.num_components
    )
    parts = {"input": "weight_ih", "recurrent": "weight_hh", "input_bias": "bias_ih", "recurrent_bias": "bias_hh"}
    weights = {
        f"gru.{layer}.{name}": getattr(module.rnn, f"{their_name}_l{layer}").detach()
        for layer in range(module.rnn.num_layers)
        for name, their_name in parts.items()
    }
    weights["input_table"] = module.emb.weight.detach()[:-1]  # the last row of each table stands for padding
    weights["output_table"] = module.lin.weight.detach()[:-1]
    weights["item_bias"] = module.lin.bias.detach()[:-1]
    items = ItemVocabulary(np.arange(NUM_ITEMS))
    return Model(Network(NUM_ITEMS, hyperparameters, weights), items, num_columns=NUM_ITEMS)


def predict_with(model, estimator, matrix):
    estimator.model_, estimator.num_items_ = model, NUM_ITEMS
    return estimator.predict(matrix)


@pytest.mark.parametrize("seed", [0, 1])
def test_copied_weights_give_the_same_scores(fitted, ours, random_matrix, seed):
    matrix = random_matrix(num_items=NUM_ITEMS, seed=seed)
    predicted = predict_with(copied_model(fitted.model_), ours(), matrix)
    expected = fitted.predict(matrix)
    assert predicted.shape == expected.shape
    assert expected.toarray().std() > 0.5
    np.testing.assert_allclose(predicted.toarray(), expected.toarray(), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("k", [1, 5])
def test_the_best_items_are_the_same(fitted, ours, random_matrix, k):
    matrix = random_matrix(num_items=NUM_ITEMS)
    predicted = predict_with(copied_model(fitted.model_), ours(predict_topK=k), matrix)
    fitted.predict_topK = k
    np.testing.assert_allclose(predicted.toarray(), fitted.predict(matrix).toarray(), atol=1e-5, rtol=0.0)


def test_users_without_history_get_no_row_in_both(fitted, ours, make_matrix):
    matrix = make_matrix([[3, 4], [], [5]], shape=(4, NUM_ITEMS))
    predicted = predict_with(copied_model(fitted.model_), ours(), matrix)
    assert np.flatnonzero(np.diff(predicted.indptr)).tolist() == [0, 2]
    assert sorted(set(fitted.predict(matrix).nonzero()[0])) == [0, 2]


def test_a_file_that_recpack_wrote_is_read(fitted, ours, random_matrix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted.save()
    matrix = random_matrix(num_items=NUM_ITEMS)
    predicted = predict_with(load_recpack_model(tmp_path / fitted.filename), ours(), matrix)
    np.testing.assert_allclose(predicted.toarray(), fitted.predict(matrix).toarray(), atol=1e-5, rtol=0.0)
