"""search.toml <-> `SearchSpec`. All problems of a file are reported together, each with its key path."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from gru4rec.data.reading import LogFormat
from gru4rec.errors import GRU4RecError, ParameterError, SpecificationError
from gru4rec.files import shorten
from gru4rec.hyperparameters import Integer
from gru4rec.metrics import parse_metric
from gru4rec.stopping import StoppingRule
from tuning.logging_spec import LoggingSpec, parse_logging, render_logging
from tuning.sections import Section, check_no_problems, read_toml
from tuning.space import Space, function_space
from tuning.space_file import parse_space, render_space
from tuning.storage import is_uri

COSTS = ("parameters", "recommend_ms")
"""What a search may minimise beside a metric: numbers in the model, milliseconds that one recommendation takes."""
LOGS = ("train", "validation", "train_full", "test")
SEARCH = (
    "trials", "max_epochs", "seed", "max_concurrent_trials", "cpus_per_trial", "gpus_per_trial", "time_budget_s",
    "epoch_budget", "until", "objectives", "validation_sample_size", "confirm", "refit",
    "checkpoint_every", "max_failures",
)  # fmt: skip


@dataclass(frozen=True)
class DataSpec:
    """The logs of a search.

    Parameters
    ----------
    train, validation : Path or str
        Trials learn from the one and are compared on the other. Each log is a path, or a URI as text.
    train_full : Path or str, optional
        What the winner is trained on anew; without it, train and validation together.
    test : Path or str, optional
        Looked at once, by the winner.
    log_format : LogFormat
    licence : str, optional
        Of the logs, for the winner's model card.
    """

    train: Path | str
    validation: Path | str
    train_full: Path | str | None = None
    test: Path | str | None = None
    log_format: LogFormat = field(default_factory=LogFormat)
    licence: str | None = None

    def logs(self) -> dict[str, Path | str]:
        """Return the logs that are named, by the part they play."""
        return {name: path for name in LOGS if (path := getattr(self, name)) is not None}


@dataclass(frozen=True)
class SearchSpec:
    """Everything that defines a search; the same specification with one worker gives the same trials and numbers.

    Parameters
    ----------
    space : Space or callable
        A callable is a function in Optuna's style, see `tuning.space.FunctionSpace`.
    data : DataSpec, optional
        None when the logs are given to `tune` in memory.
    trials : int
        Configurations to try.
    max_epochs : int
        Epochs that a trial gets at most (ASHA's R).
    seed : int
        Of the sampler; each trial's own seed derives from it and the trial's number.
    criterion : StoppingRule
        What to maximise, and the patience of each trial.
    grace_period : int or 'auto'
        Epochs before ASHA may stop a trial (ASHA's r). 'auto' is a fifth of `max_epochs`, rounded up: losses learn at
        different speeds, and after one epoch the slower one looks worse that wins after three.
    reduction_factor : int
        At each rung about one in so many trials goes on (ASHA's eta).
    max_concurrent_trials : int or 'auto'
        'auto' fills the machine or the cluster.
    cpus_per_trial : int
        Also the threads that a trial computes with.
    gpus_per_trial : float
    time_budget_s : float, optional
        Stop the search after so many seconds.
    epoch_budget : int, optional
        Stop the search after so many epochs over all trials.
    until : str, optional
        Stop the search when a trial reaches this, such as 'recall@20=0.70'.
    objectives : tuple of str
        Metrics to maximise and costs ('parameters', 'recommend_ms') to minimise beside the criterion's metric: the
        sampler then looks for the Pareto front of them all.
    validation_sample_size : int, optional
        Validation sessions, drawn once, on which epochs before the last rung are measured; the others, and the last
        epoch of each trial that ASHA did not stop, are measured on all. None measures all epochs on all.
    confirm : str, optional
        '3x5' trains the best three trials with five other seeds each; the winner has the best mean.
    refit : bool
        Train the winner anew on all the training data; otherwise on the part that trials saw.
    checkpoint_every : int
        Epochs from one checkpoint of a trial to the next: what is lost at most when its process dies.
    max_failures : int
        Times that a trial whose process dies is taken up again.
    logging : LoggingSpec
        Tools that show the search.
    """

    space: Space
    data: DataSpec | None = None
    trials: int = 20
    max_epochs: int = 10
    seed: int = 0
    criterion: StoppingRule = field(default_factory=lambda: StoppingRule("recall@20", 3))
    grace_period: int | Literal["auto"] = "auto"
    reduction_factor: int = 3
    max_concurrent_trials: int | Literal["auto"] = "auto"
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    time_budget_s: float | None = None
    epoch_budget: int | None = None
    until: str | None = None
    objectives: tuple[str, ...] = ()
    validation_sample_size: int | None = None
    confirm: str | None = None
    refit: bool = True
    checkpoint_every: int = 1
    max_failures: int = 3
    logging: LoggingSpec = field(default_factory=LoggingSpec)

    def __post_init__(self) -> None:
        if callable(self.space):
            object.__setattr__(self, "space", function_space(self.space))
        if self.criterion.minimize:
            raise SpecificationError(
                f"stopping.metric must be a rank metric such as 'recall@20', got {self.criterion.metric!r}"
            )
        if self.grace_period == "auto":
            object.__setattr__(self, "grace_period", math.ceil(self.max_epochs / 5))
        if int(self.grace_period) > self.max_epochs:
            raise SpecificationError(
                f"stopping.grace_period must be <= search.max_epochs ({self.max_epochs}), got {self.grace_period}"
            )
        for name in self.objectives:
            try:
                name in COSTS or parse_metric(name)
            except ParameterError as error:
                raise SpecificationError(
                    f"search.objectives must be metrics, or of {', '.join(COSTS)}: {error}"
                ) from None
        if len({self.criterion.metric, *self.objectives}) != 1 + len(self.objectives):
            raise SpecificationError(
                f"search.objectives must be others than stopping.metric, each once, got {list(self.objectives)!r}"
            )
        _ = self.target, self.confirmed

    @property
    def rungs(self) -> list[int]:
        """Epochs at which ASHA compares trials: grace_period * reduction_factor ** k below max_epochs.

        >>> SearchSpec(Space(()), max_epochs=10).rungs
        [2, 6]
        """
        epochs, rung = [], int(self.grace_period)
        while rung < self.max_epochs:
            epochs.append(rung)
            rung *= self.reduction_factor
        return epochs

    @property
    def target(self) -> tuple[str, float] | None:
        """The metric and the value of `until`."""
        if self.until is None:
            return None
        metric, _, value = self.until.partition("=")
        try:
            parse_metric(metric.strip())
            if not math.isfinite(float(value)):
                raise ValueError(f"{value.strip()} is not finite")
            return metric.strip(), float(value)
        except ValueError as error:
            raise SpecificationError(
                f"search.until must be METRIC=VALUE such as 'recall@20=0.70', got {self.until!r}: {error}"
            ) from None

    @property
    def confirmed(self) -> tuple[int, int] | None:
        """How many trials `confirm` trains again, and with how many seeds."""
        if self.confirm is None:
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,5})[xX]([1-9][0-9]{0,5})", self.confirm)
        if found is None:
            raise SpecificationError(f"search.confirm must be TRIALSxSEEDS such as '3x3', got {self.confirm!r}")
        return int(found[1]), int(found[2])


def read_spec(path: str | Path, official_space: Path | None = None, try_out: bool = True) -> SearchSpec:
    """Read search.toml; the paths in it are relative to its folder.

    Parameters
    ----------
    path : str or Path
    official_space : Path, optional
        A parameter space of the authors' GRU4Rec, which replaces [space] except for a range of `loss_fn`.
    try_out : bool
        Whether points are drawn from the space, which calls the function of a space that is one: not for files of
        strangers.

    Raises
    ------
    SpecificationError
        When the file cannot be read, or anything in it is unknown or out of range.
    """
    path = Path(path)
    content = read_toml(path)
    if official_space is not None:
        before = content.get("space")
        loss = {"loss_fn": before["loss_fn"]} if isinstance(before, dict) and "loss_fn" in before else {}
        content["space"] = {"official": str(official_space.resolve()), **loss}
    return parse_spec(content, path.name, path.resolve().parent, try_out)


def parse_spec(content: Mapping[str, Any], source: str, folder: Path, try_out: bool = True) -> SearchSpec:
    """Turn the content of a search.toml into a specification; see `read_spec`."""
    problems: list[str] = []
    root = Section(content, "", problems)
    data = _parse_data(root.section("data"), folder)
    search, stopping = root.section("search"), root.section("stopping")
    settings: dict[str, Any] = {
        "trials": search.number("trials", 20, Integer(1)),
        "max_epochs": search.number("max_epochs", 10, Integer(1)),
        "seed": search.number("seed", 0, Integer(0)),
        "max_concurrent_trials": search.number("max_concurrent_trials", "auto", Integer(1, words=("auto",))),
        "cpus_per_trial": search.number("cpus_per_trial", 1, Integer(1)),
        "gpus_per_trial": search.amount("gpus_per_trial", 0.0),
        "time_budget_s": search.amount("time_budget_s", None),
        "epoch_budget": search.number("epoch_budget", None, Integer(1, words=(None,))),
        "until": search.text("until", None),
        "objectives": tuple(search.texts("objectives")),
        "validation_sample_size": search.number("validation_sample_size", None, Integer(1, words=(None,))),
        "confirm": search.text("confirm", None),
        "refit": search.flag("refit", True),
        "checkpoint_every": search.number("checkpoint_every", 1, Integer(1)),
        "max_failures": search.number("max_failures", 3, Integer(0)),
        "grace_period": stopping.number("grace_period", "auto", Integer(1, words=("auto",))),
        "reduction_factor": stopping.number("reduction_factor", 3, Integer(2)),
    }
    metric = stopping.text("metric", "recall@20")
    patience = stopping.number("max_iter_no_change", 3, Integer(1))
    min_improvement = stopping.amount("min_improvement", 0.0)
    settings["logging"] = parse_logging(root.section("logging"))
    space = parse_space(root, folder, try_out)
    for section in (root, search, stopping):
        section.reject_unknown()
    check_no_problems(problems, source)
    try:
        criterion = StoppingRule(str(metric), int(patience), float(min_improvement or 0.0))
        return SearchSpec(space=space, data=data, criterion=criterion, **settings)
    except GRU4RecError as error:
        place = source if isinstance(error, SpecificationError) else f"{source}: stopping"
        raise SpecificationError(f"{place}: {shorten(str(error))}") from None


def render_spec(spec: SearchSpec) -> str:
    """Return the search.toml of a specification, every default written out: reading it gives an equal one."""
    return tomli_w.dumps(to_dict(spec))


def to_dict(spec: SearchSpec) -> dict[str, Any]:
    """Return the content of the search.toml of a specification."""
    content: dict[str, Any] = {}
    if spec.data is not None:
        content["data"] = {name: str(path) for name, path in spec.data.logs().items()}
        content["data"] |= dataclasses.asdict(spec.data.log_format)
        if spec.data.licence is not None:
            content["data"]["licence"] = spec.data.licence
    content["search"] = {name: value for name in SEARCH if (value := getattr(spec, name)) not in (None, ())}
    content["stopping"] = {
        **dataclasses.asdict(spec.criterion),
        "grace_period": spec.grace_period,
        "reduction_factor": spec.reduction_factor,
    }
    if logging := render_logging(spec.logging):
        content["logging"] = logging
    return content | render_space(spec.space)


def _parse_data(section: Section, folder: Path) -> DataSpec | None:
    paths = {name: section.text(name, None) for name in LOGS}
    columns = {name: section.text(name, default) for name, default in dataclasses.asdict(LogFormat()).items()}
    licence = section.text("licence", None)
    section.reject_unknown()
    if not section.values:
        return None
    for name in ("train", "validation"):
        if not paths[name]:
            section.problems.append(f"data.{name} is missing: name a .csv, .tsv or .parquet file")
    try:
        log_format = LogFormat(**columns)
    except ParameterError as error:
        section.problems.append(f"data: {error}")
        return None
    if not (paths["train"] and paths["validation"]):
        return None
    places = {name: path if is_uri(path) else folder / path for name, path in paths.items() if path}
    return DataSpec(log_format=log_format, licence=licence, **places)
