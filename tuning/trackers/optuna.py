"""The study in a storage that optuna-dashboard reads: a copy, the search itself asks one in memory.

Trial numbers, values and states are those of the search's own study (`tuning.searcher`); epochs' values come at once.
A trial that is interrupted is WAITING until the search goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from gru4rec.errors import SearchError
from tuning.journal import FAILED, FINISHED, INTERRUPTED, STOPPED_EARLY
from tuning.searcher import Reports, make_study
from tuning.storage import is_uri
from tuning.tracking import Subject

SEARCH_ID = "search_id"
METRIC_NAMES = "study:metric_names"  # what Study.set_metric_names writes, which warns of being experimental


class OptunaTracker:
    """Tells a study; a trial that it has already is gone on with."""

    def __init__(self, subject: Subject) -> None:
        location, name = str(subject.spec.logging.optuna), subject.path.name
        self._storage = open_storage(location, subject.path)
        self._study = make_study(subject.spec, name, self._storage)
        self._space = subject.space
        self._objectives = [subject.spec.criterion.metric, *subject.spec.objectives]
        self._ids: dict[int, int] = {}  # of trials that have not ended
        self._reports: dict[int, Reports] = {}
        if self._study.user_attrs.get(SEARCH_ID, subject.search_id) != subject.search_id:
            raise SearchError(f"{location} has a study {name!r} of another search", "give this one another --out")
        self._study.set_user_attr(SEARCH_ID, subject.search_id)
        self._study.set_user_attr("fixed", dict(subject.space.fixed))
        self._storage.set_study_system_attr(self._study._study_id, METRIC_NAMES, self._objectives)
        self._known = self._study.get_trials(deepcopy=False)

    def begin(self, line: dict[str, Any]) -> None:
        number = line["trial"]
        trial = self._known[number] if number < len(self._known) else self._add(line)
        if trial.state == TrialState.WAITING:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        if not trial.state.is_finished():
            self._ids[number], self._reports[number] = trial._trial_id, Reports()

    def _add(self, line: dict[str, Any]) -> FrozenTrial:
        """Add a trial; as they begin in the order of their numbers, the study gives it the number it has."""
        chosen = FixedTrial(line["params"], line["trial"])
        self._space.suggest(chosen)
        trial = create_trial(
            state=TrialState.RUNNING,
            params=chosen.params,
            distributions=chosen.distributions,
            user_attrs={"seed": line["seed"]},
        )
        return self._storage.get_trial(self._storage.create_new_trial(self._study._study_id, trial))

    def epoch(self, line: dict[str, Any]) -> None:
        number, metric = line["trial"], self._objectives[0]
        if number not in self._ids:
            return
        if not self._reports[number].values:
            self._storage.set_trial_user_attr(self._ids[number], "node", line["node"])
        self._reports[number].add(line, self._objectives)
        if len(self._objectives) == 1:  # Optuna takes no intermediate values of several objectives
            self._storage.set_trial_intermediate_value(self._ids[number], line["epoch"], line[metric])

    def end(self, number: int, state: str, error: str) -> None:
        if number not in self._ids:
            return
        self._note_state(number, state, error)
        if state in (FINISHED, STOPPED_EARLY):
            reports = self._reports[number]
            self._study.tell(number, [reports.best, *reports.at_best])
        else:
            self._study.tell(number, state=TrialState.FAIL if state == FAILED else TrialState.PRUNED)
        del self._ids[number], self._reports[number]

    def close(self, ended: str, model: Path | None) -> None:
        self._study.set_user_attr("ended", ended)
        for number, trial_id in self._ids.items():
            self._note_state(number, INTERRUPTED)
            self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _note_state(self, number: int, state: str, error: str = "") -> None:
        self._storage.set_trial_user_attr(self._ids[number], "state", state)
        if error:
            self._storage.set_trial_user_attr(self._ids[number], "error", error)


def open_storage(location: str, folder: Path) -> BaseStorage:
    """Return the storage at a URL, or at a path relative to a result folder."""
    if is_uri(location):
        return optuna.storages.get_storage(location)
    return JournalStorage(JournalFileBackend(str(folder / location)))


make_tracker = OptunaTracker
