"""Actors that do nothing but wait, for measuring what happens around them. They are many, so nothing imports torch."""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import Any

import ray
from ray import tune

EPOCH_S = 1.5
EPOCHS = 3


class WaitingTrial(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Reports as `tuning.trainable.GRU4RecTrainable` does, and when its epochs began and ended."""

    def setup(self, config: dict[str, Any], task: Any, checkpoints: Any) -> None:
        self._epoch = 0
        self._extra: dict[str, Any] = {"ran_on": ray.get_runtime_context().get_node_id()}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        began = time.time()
        time.sleep(EPOCH_S)
        self._epoch += 1
        return {
            "epoch": self._epoch, "loss": 0.0, "seconds": EPOCH_S, "events_per_second": 0.0, "recall@20": 0.5,
            "epoch_seconds": EPOCH_S, "node": "-", "best": 0.5, "validated_on": "all", "stopped_early": False,
            "done": self._epoch == EPOCHS,
            "began": began, "ended": time.time(), **self._extra,
        }  # fmt: skip


class ReadingTrial(WaitingTrial):
    """Also holds a task with arrays, and says whether all of them lie in the object store, where none can change."""

    def setup(self, config: dict[str, Any], task: Any, checkpoints: Any) -> None:
        super().setup(config, task, checkpoints)
        self._task = task
        self._extra["in_place"] = all(array.readonly for array in array_buffers(task))


class Holder:
    """Takes calls that it never answers, and others that it answers at once."""

    async def hold(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def answer(self) -> dict[str, float]:
        """Return a report."""
        return {"recall@20": 0.5}


def array_buffers(content: Any) -> list[memoryview]:
    """Return the memory of all arrays in an object, each once."""
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
    return [buffer.raw() for buffer in buffers]
