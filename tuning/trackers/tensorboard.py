"""Event files for TensorBoard: a folder for each trial, with its curves and, at its end, its row under HPARAMS."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from tuning.checkpoints import folder_name
from tuning.tracking import Subject, scalars

EVENTS = "tensorboard"


class TensorBoardTracker:
    """Writes RUN/tensorboard from the first trial on: what was there before is of the same trials, and is removed.

    tensorboardX's SummaryWriter is not used: it needs a thread and a pipe for each trial, writes late, and makes
    'recall_20' of 'recall@20'.
    """

    def __init__(self, subject: Subject) -> None:
        self._folder = subject.path / EVENTS
        self._writers: dict[int, EventsWriter] = {}
        self._begins: dict[int, dict[str, Any]] = {}
        self._last: dict[int, dict[str, float]] = {}
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def begin(self, line: dict[str, Any]) -> None:
        folder = self._folder / folder_name(line["trial"])
        folder.mkdir(parents=True)
        self._begins[line["trial"]] = line
        self._writers[line["trial"]] = EventsWriter(str(folder / "events"))

    def epoch(self, line: dict[str, Any]) -> None:
        self._last[line["trial"]] = scalars(line)
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(line).items()]
        _write(self._writers[line["trial"]], Summary(value=values), line["epoch"])

    def end(self, number: int, state: str, error: str) -> None:
        if number not in self._writers:
            return
        begin, writer = self._begins.pop(number), self._writers.pop(number)
        settings = {**begin["hyperparameters"], "seed": begin["seed"], "state": state}
        for summary in hparams({name: _plain(value) for name, value in settings.items()}, self._last.pop(number, {})):
            _write(writer, summary)
        writer.close()

    def close(self, ended: str, model: Path | None) -> None:
        for writer in self._writers.values():
            writer.close()


def _write(writer: EventsWriter, summary: Summary, step: int = 0) -> None:
    writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
    writer.flush()


def _plain(value: object) -> object:
    """Return a value that HPARAMS takes."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)


make_tracker = TensorBoardTracker
