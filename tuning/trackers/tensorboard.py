"""Event files for TensorBoard: a folder for each trial, with its curves and, at its end, its row under HPARAMS."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tensorboardX import FileWriter
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from tuning.checkpoints import folder_name
from tuning.tracking import Subject, scalars

EVENTS = "tensorboard"


class TensorBoardTracker:
    """Writes RUN/tensorboard from the first trial on: what was there before is of the same trials, and is removed."""

    def __init__(self, subject: Subject) -> None:
        self._folder = subject.path / EVENTS
        self._writers: dict[int, Any] = {}
        self._begins: dict[int, dict[str, Any]] = {}
        self._last: dict[int, dict[str, float]] = {}
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def begin(self, line: dict[str, Any]) -> None:
        self._begins[line["trial"]] = line
        self._writers[line["trial"]] = FileWriter(str(self._folder / folder_name(line["trial"])))

    def epoch(self, line: dict[str, Any]) -> None:
        writer = self._writers[line["trial"]]
        self._last[line["trial"]] = scalars(line)
        # Through tensorboardX's add_scalar the '@' of 'recall@20' would become a '_'.
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(line).items()]
        writer.add_summary(Summary(value=values), line["epoch"])
        writer.flush()

    def end(self, number: int, state: str, error: str) -> None:
        begin, writer = self._begins.pop(number), self._writers.pop(number)
        settings = {**begin["hyperparameters"], "seed": begin["seed"], "state": state}
        for summary in hparams({name: _plain(value) for name, value in settings.items()}, self._last.pop(number, {})):
            writer.add_summary(summary)
        writer.close()

    def close(self, ended: str, model: Path | None) -> None:
        for writer in self._writers.values():
            writer.close()


def _plain(value: object) -> object:
    """Return a value that HPARAMS takes."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)


make_tracker = TensorBoardTracker
