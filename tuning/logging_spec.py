"""[logging] of search.toml: the tools beside the result folder that show a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from gru4rec.errors import SpecificationError
from tuning.sections import Section

EXPERIMENT = "gru4rec-tune"
_NEEDS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb", "optuna": "optuna"}
_EXTRAS = {"tensorboard": "tune", "mlflow": "mlflow", "wandb": "wandb", "optuna": "tune"}


@dataclass(frozen=True)
class LoggingSpec:
    """Where a search is shown while it runs; none of it changes what is found.

    Parameters
    ----------
    tensorboard : bool
        Write event files to the folder tensorboard of the result folder.
    mlflow : str, optional
        Tracking URI, such as 'sqlite:///mlruns.db' or 'http://127.0.0.1:5000'.
    mlflow_experiment : str
    wandb : str, optional
        Project of Weights & Biases; the key is from `wandb login` or the environment.
    optuna : str, optional
        A file, relative to the result folder, or the URL of a database: the study as optuna-dashboard reads it.

    Raises
    ------
    SpecificationError
        When a URL holds a password: this goes into files.
    """

    tensorboard: bool = False
    mlflow: str | None = None
    mlflow_experiment: str = EXPERIMENT
    wandb: str | None = None
    optuna: str | None = None

    def __post_init__(self) -> None:
        for name in ("mlflow", "optuna"):
            _check_no_password(name, getattr(self, name))

    @property
    def tools(self) -> list[str]:
        """The names of those that are asked for."""
        return [name for name in _NEEDS if getattr(self, name)]


def parse_logging(section: Section) -> LoggingSpec:
    """Read the table [logging]."""
    values: dict[str, Any] = {"tensorboard": section.flag("tensorboard", False)}
    values |= {name: section.text(name, None) for name in ("mlflow", "wandb", "optuna")}
    values["mlflow_experiment"] = section.text("mlflow_experiment", EXPERIMENT)
    section.reject_unknown()
    try:
        return LoggingSpec(**values)
    except SpecificationError as error:
        section.problems.append(str(error))
        return LoggingSpec()


def render_logging(logging: LoggingSpec) -> dict[str, Any]:
    """Return the content of the table [logging], without what is not asked for."""
    return {name: value for name, value in asdict(logging).items() if value != getattr(LoggingSpec(), name)}


def check_packages(logging: LoggingSpec) -> None:
    """Look for the packages that [logging] needs.

    Raises
    ------
    SpecificationError
        When one is not installed.
    """
    for name in logging.tools:
        if find_spec(_NEEDS[name]) is None:
            raise SpecificationError(
                f"logging.{name} needs {_NEEDS[name]}, which is not installed",
                f"pip install 'gru4rec-tune[{_EXTRAS[name]}]'",
            )


def _check_no_password(name: str, location: str | None) -> None:
    try:
        found = location is not None and urlsplit(location).password is not None
    except ValueError as error:
        raise SpecificationError(f"logging.{name} must be a path or a URL, got {location!r}: {error}") from None
    if found:
        raise SpecificationError(
            f"logging.{name} must hold no password: search.toml is copied to the result folder",
            "give it in the environment, as docs/tracking.md says",
        )
