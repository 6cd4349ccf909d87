from gru4rec import GRU4RecNegSampling, load_model, read_log, split_time_share
from gru4rec.data.synthetic import generate_log

log = read_log(generate_log(num_sessions=3_000, num_items=300))  # or read_log("clicks.csv")
train, test = split_time_share(log, 0.1)
model = GRU4RecNegSampling(
    loss_fn="bpr-max", embedding="tied", num_negatives=512, batch_size=64, learning_rate=0.05, max_epochs=3, seed=1
)
model.fit(train)
print(model.evaluate(test).metrics)
folder = model.save()
print(load_model(folder).recommend(test, k=3).table.head())
