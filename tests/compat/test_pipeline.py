"""Our estimator inside recpack's Pipeline: registered, searched on a grid, measured by recpack's metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recpack.pipelines import ALGORITHM_REGISTRY, GridSearchInfo, PipelineBuilder
from recpack.scenarios import Timed, WeakGeneralization

import gru4rec

RATES = [0.001, 0.1]
SMALL = {"hidden_size": 32, "num_components": 32, "batch_size": 32, "max_epochs": 3, "seed": 1}
# Negatives as recpack draws them: with random events held out, popularity is worth knowing.
FIXED = {"loss_fn": "bpr-max", "negatives": "per_target", "sample_alpha": 0.0, **SMALL}


@pytest.fixture
def registered_name():
    """The name our class is registered by; recpack's own has ours, and a class is looked up by its name."""
    ALGORITHM_REGISTRY.register("OurGRU4Rec", gru4rec.GRU4RecNegSampling)
    yield "OurGRU4Rec"
    del ALGORITHM_REGISTRY.registered["OurGRU4Rec"]


def time_quantile(matrix, share):
    return int(matrix.timestamps.quantile(share))


SCENARIOS = {
    "weak": lambda matrix: WeakGeneralization(0.8, validation=True, seed=1),
    "timed": lambda matrix: Timed(
        t=time_quantile(matrix, 0.8), t_validation=time_quantile(matrix, 0.6), validation=True
    ),
}


def run_pipeline(scenario, algorithm_name, folder):
    builder = PipelineBuilder(folder_name="results", base_path=str(folder))
    builder.set_data_from_scenario(scenario)
    builder.add_algorithm(algorithm_name, optimisation_info=GridSearchInfo({"learning_rate": RATES}), params=FIXED)
    builder.add_algorithm("Popularity", params={"K": 50})
    builder.set_optimisation_metric("NDCGK", K=10)
    for metric in ("RecallK", "NDCGK"):
        builder.add_metric(metric, K=[10, 20])
    pipeline = builder.build()
    pipeline.run()
    return pipeline


def test_grid_search_metrics_and_results_table(registered_name, shop_matrix, tmp_path):
    scenario = SCENARIOS["weak"](shop_matrix)
    scenario.split(shop_matrix)
    pipeline = run_pipeline(scenario, registered_name, tmp_path)

    tried = pipeline.optimisation_results
    assert tried["identifier"].tolist() == [
        gru4rec.GRU4RecNegSampling(learning_rate=rate, **FIXED).identifier for rate in RATES
    ]
    best = gru4rec.GRU4RecNegSampling(learning_rate=RATES[tried["NDCGK_10"].argmax()], **FIXED).identifier
    table = pipeline.get_metrics()
    assert table.shape == (2, 4)
    assert table.loc[best].between(0.0, 1.0, inclusive="neither").all()
    assert table.loc[best, "RecallK_20"] > 1.1 * table.loc["Popularity(K=50)", "RecallK_20"]
    assert pipeline.get_metrics(short=True).index.tolist() == ["GRU4RecNegSampling", "Popularity"]

    pipeline.save_metrics()
    saved = json.loads((Path(pipeline.results_directory) / "results.json").read_text())
    assert set(saved["RecallK_10"]) == {best, "Popularity(K=50)"}


def test_the_figures_are_those_of_the_estimator_alone(registered_name, shop_matrix, tmp_path):
    """What the pipeline reports is what one gets by hand: trained on the full training data, history removed."""
    scenario = SCENARIOS["weak"](shop_matrix)
    scenario.split(shop_matrix)
    pipeline = run_pipeline(scenario, registered_name, tmp_path)
    rate = RATES[pipeline.optimisation_results["NDCGK_10"].argmax()]
    model = gru4rec.GRU4RecNegSampling(learning_rate=rate, **FIXED).fit(scenario.full_training_data)
    predicted = model.predict(scenario.test_data_in)
    predicted -= predicted.multiply(scenario.test_data_in.binary_values)
    by_hand = gru4rec.StoppingCriterion.create("recall", k=20).evaluate(scenario.test_data_out.binary_values, predicted)
    assert pipeline.get_metrics().loc[model.identifier, "RecallK_20"] == pytest.approx(by_hand, abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*made no recommendation:UserWarning")
@pytest.mark.filterwarnings("ignore:.*unusually small:UserWarning")
def test_a_timed_scenario(registered_name, shop_matrix, tmp_path):
    scenario = SCENARIOS["timed"](shop_matrix)
    scenario.split(shop_matrix)
    table = run_pipeline(scenario, registered_name, tmp_path).get_metrics(short=True)
    assert table.index.tolist() == ["GRU4RecNegSampling", "Popularity"]
    assert table.loc["GRU4RecNegSampling"].between(0.0, 1.0).all()
