"""Runs in Weights & Biases: one for each trial, in a group named after the search, and one with the winner's figures.

Runs have ids of their search and trial, so a search that goes on goes on in the same runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gru4rec.errors import SearchError
from tuning.checkpoints import folder_name
from tuning.journal import DIVERGED, FAILED, INTERRUPTED
from tuning.tracking import Subject, scalars

ENDED = "ended.txt"


class WandbTracker:
    """Keeps the local files of its runs in RUN/wandb; ENDED there lists the trials that it has told whole."""

    def __init__(self, subject: Subject) -> None:
        import wandb  # here, as few have it installed

        # without a key it would ask for one on the terminal, from a thread of ours
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise SearchError("no key for Weights & Biases was found", "wandb login, or set WANDB_MODE=offline")
        self._wandb = wandb
        self._subject = subject
        self._folder = subject.path / "wandb"
        self._folder.mkdir(exist_ok=True)
        ended = self._folder / ENDED
        self._ended = set(map(int, ended.read_text(encoding="utf-8").split())) if ended.exists() else set()
        self._runs: dict[int, Any] = {}

    def _begin_run(self, name: str, kind: str, config: dict[str, Any]) -> Any:
        return self._wandb.init(
            project=self._subject.spec.logging.wandb,
            id=f"{self._subject.search_id}-{name}",
            name=f"{self._subject.path.name}/{name}",
            group=self._subject.path.name,
            job_type=kind,
            config=config,
            dir=str(self._subject.path),
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )

    def begin(self, line: dict[str, Any]) -> None:
        number = line["trial"]
        if number not in self._ended:
            config = {**line["hyperparameters"], "seed": line["seed"]}
            self._runs[number] = self._begin_run(folder_name(number), "trial", config)

    def epoch(self, line: dict[str, Any]) -> None:
        run = self._runs.get(line["trial"])
        if run is not None and line["epoch"] >= run.step:  # the step that comes next; those before it are there
            run.log(scalars(line), step=line["epoch"], commit=True)

    def end(self, number: int, state: str, error: str) -> None:
        if number not in self._runs:
            return
        self._end_run(self._runs.pop(number), state, error)
        with (self._folder / ENDED).open("a", encoding="utf-8") as file:
            file.write(f"{number}\n")

    def close(self, ended: str, model: Path | None) -> None:
        for run in self._runs.values():
            self._end_run(run, INTERRUPTED)
        if model is not None:
            figures = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
            config = json.loads((model / "config.json").read_text(encoding="utf-8"))["hyperparameters"]
            run = self._begin_run("winner", "winner", config)
            run.summary["trial"] = figures["trial"]
            for log, metrics in (
                ("validation", figures["validation"]),
                ("test", figures.get("test", {}).get("metrics")),
            ):
                run.summary.update({f"{log}/{name}": value for name, value in (metrics or {}).items()})
            self._end_run(run, ended)

    @staticmethod
    def _end_run(run: Any, state: str, error: str = "") -> None:
        run.summary["state"] = state
        if error:
            run.summary["error"] = error
        run.finish(exit_code=1 if state in (FAILED, DIVERGED, INTERRUPTED) else 0)


make_tracker = WandbTracker
