"""Answers beside those of the model itself, and folders that cannot be served."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gru4rec.errors import DivergedError, ModelFolderError
from gru4rec.files import file_digest
from gru4rec.model_folder import save_model
from serving.recommender import load_recommender
from serving.requests import RecommendRequest

ITEMS = range(10, 400)


@pytest.fixture
def folder(make_model, tmp_path):
    model = dataclasses.replace(make_model(ITEMS, seed=1), support=np.arange(len(ITEMS)))
    return save_model(model, tmp_path / "model")


def request(*sessions, k=5, exclude_seen=False):
    return RecommendRequest(sessions, k, exclude_seen, single=False)


def test_requests_of_all_kinds_at_once_get_what_the_model_gives_each(folder, make_model):
    model = make_model(ITEMS, seed=1)
    requests = [
        request([10, 11, 12]),
        request([20], [30, 31], k=2, exclude_seen=True),
        request([399, 17, 17, 18], k=300),
        request([40], k=1),
    ]
    answers = load_recommender(folder).answer(requests)
    for asked, got in zip(requests, answers, strict=True):
        for session, answer in zip(asked.sessions, got, strict=True):
            (items,), (scores,), (source,) = model.recommend_items([session], asked.k, asked.exclude_seen)
            assert (answer.items, answer.source, answer.unknown) == (items, source, 0)
            np.testing.assert_allclose(answer.scores, scores, rtol=1e-5)


def test_unknown_items_are_counted_and_text_is_as_good_as_numbers(folder):
    recommender = load_recommender(folder)
    ((plain, mixed),) = recommender.answer([request([10, 11], ["10", "nothing", 11, 5])])
    assert (plain.items, plain.unknown, mixed.unknown) == (mixed.items, 0, 2)


def test_a_session_without_a_known_item_gets_the_popular_ones(folder):
    ((empty, unknown),) = load_recommender(folder).answer([request([], ["x"], k=3)])
    assert empty.items == unknown.items == [399, 398, 397]  # support grows with the item
    assert (empty.source, unknown.source, empty.unknown, unknown.unknown) == ("popular", "popular", 0, 1)


def test_metadata(folder):
    found = load_recommender(folder).metadata()
    assert found["model"]["digest"] == file_digest(folder / "SHA256SUMS")
    assert (found["model"]["folder"], found["model"]["num_items"]) == ("model", len(ITEMS))
    assert found["hyperparameters"]["hidden_size"] == 4


def test_a_damaged_folder_is_refused(folder):
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(ModelFolderError, match=r"model is damaged: metrics\.json not as written"):
        load_recommender(folder)


def test_a_model_that_cannot_answer_is_refused(make_model, tmp_path):
    model = make_model(ITEMS)
    model.network.item_bias.fill_(torch.nan)
    with pytest.raises(DivergedError, match="not finite"):
        load_recommender(save_model(model, tmp_path / "nan"))
