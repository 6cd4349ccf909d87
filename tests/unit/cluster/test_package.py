"""The working folder of a submission."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

from cluster import package
from cluster.package import installed_requirements, make_folder, pack_search
from cluster.spec import ClusterSpec, NodeGroup
from gru4rec.errors import DataError
from tuning.space import Space
from tuning.spec import DataSpec, SearchSpec, read_spec

LOG = "SessionId,ItemId,Time\n1,2,3\n"


@pytest.fixture
def search(tmp_path):
    for name in ("train", "validation"):
        (tmp_path / f"{name}.csv").write_text(LOG + "4,5,6\n" * (name == "train"))
    return SearchSpec(Space(()), DataSpec(tmp_path / "train.csv", tmp_path / "validation.csv"), trials=3)


@pytest.fixture
def cluster(tmp_path):
    group = NodeGroup("small", cpus=2, min=0, max=4, price_per_hour=0.5)
    return ClusterSpec("shop", "local", str(tmp_path / "runs"), workers=(group,), variables={"A": "b"})


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    return path


def test_small_logs_travel_with_the_search(folder, search, cluster, tmp_path):
    said: list[str] = []
    submission = pack_search(folder, cluster, search, "shop-1", said.append)
    assert (folder / "data/train.csv").read_text() == LOG + "4,5,6\n"
    there = read_spec(folder / "search.toml")
    assert (there.data.validation, there.trials) == (folder / "data/validation.csv", 3)
    assert (submission.command, submission.variables) == (("-m", "cluster.driver"), {"A": "b"})
    order = json.loads((folder / "submission.json").read_text())
    assert order["slots"] == 9  # the head's one and two on each of four nodes
    assert order["prices"] == {"head": 0.0, "small": 0.5}
    assert (said, (tmp_path / "runs").exists()) == ([], False)


def test_large_logs_go_to_the_storage_once(folder, search, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "SMALL_BYTES", 10)
    said: list[str] = []
    pack_search(folder, cluster, search, "shop-1", said.append)
    pack_search(folder, cluster, search, "shop-2", said.append)
    assert len(said) == 2
    stored = read_spec(folder / "search.toml").data.train
    assert stored.parent == tmp_path / "runs/logs"
    assert stored.read_text() == LOG + "4,5,6\n"
    assert not (folder / "data").exists()


def test_a_look_uploads_nothing(folder, search, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "SMALL_BYTES", 10)
    pack_search(folder, cluster, search, "shop-1", None)
    assert not (tmp_path / "runs").exists()


def test_a_uri_stays_what_it_is(folder, search, cluster):
    uri = DataSpec("s3://bucket/train.parquet", "s3://bucket/validation.parquet")
    pack_search(folder, cluster, SearchSpec(Space(()), uri), "shop-1", None)
    assert read_spec(folder / "search.toml").data.train == "s3://bucket/train.parquet"


def test_our_code_runs_from_the_folder(folder):
    make_folder(folder)
    code = "import cluster.driver, importlib.metadata as m; print(cluster.driver.__file__, m.version('gru4rec-tune'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(folder / "cluster/driver.py"), importlib.metadata.version("gru4rec-tune")]
    assert list(folder.rglob("*.pyc")) == []


def test_requirements_are_those_installed_here():
    found = dict(requirement.split("==") for requirement in installed_requirements())
    assert found["optuna"] == importlib.metadata.version("optuna")
    assert "+" not in found["torch"]
    assert "ray" not in found


def test_a_log_that_does_not_exist(folder, cluster, search):
    search.data.validation.unlink()
    with pytest.raises(DataError, match=r"validation\.csv does not exist or is not a file"):
        pack_search(folder, cluster, search, "id", None)
