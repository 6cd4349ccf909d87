"""[logging] of search.toml."""

from __future__ import annotations

import pytest

from gru4rec.errors import SpecificationError
from tuning.logging_spec import LoggingSpec, check_packages
from tuning.spec import SearchSpec, read_spec, render_spec

ALL = """
[logging]
tensorboard = true
mlflow = "http://127.0.0.1:5000"
mlflow_experiment = "shop"
wandb = "shop"
optuna = "optuna.log"
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text: str) -> SearchSpec:
        (tmp_path / "search.toml").write_text(text)
        return read_spec(tmp_path / "search.toml")

    return read_text


def test_it_is_read_and_written_out(read):
    spec = read(ALL)
    assert spec.logging == LoggingSpec(True, "http://127.0.0.1:5000", "shop", "shop", "optuna.log")
    assert spec.logging.tools == ["tensorboard", "mlflow", "wandb", "optuna"]
    assert read(render_spec(spec)).logging == spec.logging


def test_nothing_is_shown_unless_asked_for(read):
    spec = read("")
    assert spec.logging.tools == []
    assert "[logging]" not in render_spec(spec)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("tensorbord = true", r"unknown key 'tensorbord'; did you mean 'tensorboard'\? in \[logging\]"),
        ("mlflow = true", r"logging.mlflow must be text, got True"),
        ('mlflow = "http://me:secret@host"', r"logging.mlflow must hold no password"),
        ('optuna = "postgresql://me:secret@host/db"', r"logging.optuna must hold no password"),
        ('optuna = "mysql://[host"', r"logging.optuna must be a path or a URL"),
    ],
)
def test_what_is_wrong_is_named_and_no_password_is_repeated(read, line, problem):
    with pytest.raises(SpecificationError, match=problem) as error:
        read(f"[logging]\n{line}\n")
    assert "secret" not in str(error.value)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("tuning.logging_spec.find_spec", lambda name: None if name == "mlflow" else object())
    check_packages(LoggingSpec(tensorboard=True, wandb="shop", optuna="optuna.log"))
    with pytest.raises(SpecificationError, match=r"logging.mlflow needs mlflow.*pip install 'gru4rec-tune\[mlflow\]'"):
        check_packages(LoggingSpec(mlflow="sqlite:///mlruns.db"))
