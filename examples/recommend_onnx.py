"""Recommend with a model folder's onnx/ alone: python recommend_onnx.py MODEL sessions.csv out.csv [K]

It needs numpy, pandas and onnxruntime. The log has the columns SessionId, ItemId, Time; items that the model does not
know are left out, and so are sessions without a known one.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd

SESSIONS_AT_ONCE = 64


def main(model: Path, log: Path, out: Path, k: int = 20) -> None:
    graph = onnxruntime.InferenceSession(model / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    about = graph.get_modelmeta().custom_metadata_map
    if hashlib.sha256((model / "onnx/items.csv").read_bytes()).hexdigest() != about["items_sha256"]:
        sys.exit(f"{model}/onnx/items.csv is not of this model.onnx")
    # As text, whatever ids look like: 007 is not 7.
    items = pd.read_csv(model / "onnx/items.csv", dtype={"item_id": str}, keep_default_na=False)["item_id"]
    events = pd.read_csv(log, dtype={"SessionId": str, "ItemId": str}, keep_default_na=False)
    if not pd.api.types.is_numeric_dtype(events["Time"]):
        events["Time"] = pd.to_datetime(events["Time"], format="ISO8601", utc=True)
    events["index"] = pd.Index(items).get_indexer(events["ItemId"])
    grouped = events.sort_values("Time", kind="stable").groupby("SessionId", sort=False)["index"]
    sessions = [(name, index[index >= 0].to_numpy()) for name, index in grouped if (index >= 0).any()]
    ids = (items.astype("int64") if about["item_ids"] == "integer" else items).to_numpy()

    rows = []
    for first in range(0, len(sessions), SESSIONS_AT_ONCE):
        names, histories = zip(*sessions[first : first + SESSIONS_AT_ONCE], strict=True)
        lengths = np.array([len(history) for history in histories])
        padded = np.zeros((len(histories), lengths.max()), dtype=np.int64)
        for row, history in enumerate(histories):
            padded[row, : len(history)] = history
        best, scores = graph.run(["ids", "scores"], {"items": padded, "lengths": lengths, "k": np.array([k])})
        for name, *of_session in zip(names, ids[best], scores, strict=True):
            rows += [(name, rank, *pair) for rank, pair in enumerate(zip(*of_session, strict=True), 1)]
    table = pd.DataFrame(rows, columns=["session", "rank", "item", "score"])
    table.astype({"score": np.float32}).to_csv(out, index=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *map(int, sys.argv[4:]))
