"""A script for recpack with one import changed. It needs recpack, the extra `compat`."""

from recpack.metrics import NDCGK, RecallK
from recpack.preprocessing.filters import MinItemsPerUser, MinUsersPerItem
from recpack.preprocessing.preprocessors import DataFramePreprocessor
from recpack.scenarios import WeakGeneralization

from gru4rec import GRU4RecNegSampling  # was: from recpack.algorithms import GRU4RecNegSampling
from gru4rec.data.synthetic import generate_log

log = generate_log(num_sessions=3_000, num_items=300)  # or your own DataFrame of users, items and whole seconds
preprocessor = DataFramePreprocessor(item_ix="ItemId", user_ix="SessionId", timestamp_ix="Time")
preprocessor.add_filter(MinUsersPerItem(5, item_ix="ItemId", user_ix="SessionId"))
preprocessor.add_filter(MinItemsPerUser(3, item_ix="ItemId", user_ix="SessionId"))
interactions = preprocessor.process(log)

scenario = WeakGeneralization(frac_data_in=0.8, validation=True, seed=1)
scenario.split(interactions)

model = GRU4RecNegSampling(loss_fn="bpr-max", batch_size=64, max_epochs=5, stop_early=True, seed=1)
model.fit(scenario.validation_training_data, scenario.validation_data)
predictions = model.predict(scenario.test_data_in)

for metric in (RecallK(K=20), NDCGK(K=20)):
    metric.calculate(scenario.test_data_out.binary_values, predictions)
    print(f"{metric.name}: {metric.value:.4f}")
