"""What is found of this machine, and of the nodes of a cluster."""

from __future__ import annotations

import pytest
import ray

from cluster import checks
from cluster.checks import Check, check_nodes, check_this_machine, installed_versions, write_problem


@pytest.fixture
def order(tmp_path):
    return {
        "storage_path": str(tmp_path / "runs"),
        "cpus_per_trial": 1,
        "gpus_per_trial": 0.0,
        "log_bytes": 1000,
        "elastic": False,
    }


def test_versions_that_must_agree_are_found():
    versions = installed_versions()
    assert versions["ray"] == ray.__version__
    assert set(versions) == {"python", *checks.PACKAGES}


def test_a_missing_package_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "PACKAGES", ("no-such-package",))
    found = {check.name: check for check in check_this_machine(str(tmp_path))}
    missing = found["no-such-package"]
    assert (missing.passed, missing.detail, missing.remedy) == (False, "not installed", "pip install no-such-package")
    assert found["storage"].passed


def test_storage_that_is_yet_to_be_made_is_judged_by_its_parent(tmp_path):
    assert write_problem(str(tmp_path / "runs" / "a")) == ""
    assert list(tmp_path.iterdir()) == []


def test_what_a_check_writes_to_a_uri_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.Storage, "folder", None)  # as that of a file system far away
    uploaded = []
    upload = checks.Storage.upload
    monkeypatch.setattr(checks.Storage, "upload", lambda *call: (uploaded.append(call[2]), upload(*call)))
    (tmp_path / "runs").mkdir()
    assert write_problem(f"file://{tmp_path}/runs") == ""
    assert len(uploaded) == 1
    assert list((tmp_path / "runs").iterdir()) == []


def test_storage_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written: Not a directory" in write_problem(str(tmp_path / "file" / "inside"))
    assert "ftp://" in write_problem("ftp://host/runs")


def test_a_node_that_is_fit(ray_local, order, tmp_path):
    found = check_nodes(order)
    assert [check for check in found if not check.passed] == []
    assert [check.name.rpartition(": ")[2] for check in found[:4]] == ["versions", "storage", "clock", "object store"]
    assert found[-1].detail == "2 trials of 1 CPUs and 0 GPUs at a time"
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_a_node_lacks(ray_local, order, monkeypatch):
    order |= {"gpus_per_trial": 1.0, "log_bytes": 10**15}
    monkeypatch.setattr(checks, "installed_versions", lambda: {"ray": "0.1"})
    failed = {check.name.rpartition(": ")[2]: check for check in check_nodes(order) if not check.passed}
    assert set(failed) == {"object store", "room for trials"} | ({"versions"} & set(failed))
    assert failed["room for trials"].detail.startswith("0 trials")
    assert all(check.remedy for check in failed.values())


def test_a_cluster_that_grows_may_have_no_room_yet(ray_local, order):
    order |= {"gpus_per_trial": 1.0, "elastic": True}
    assert check_nodes(order)[-1].passed


def test_storage_that_the_head_cannot_write(ray_local, order, tmp_path):
    (tmp_path / "runs").write_text("")
    assert check_nodes(order) == [
        Check(
            "storage",
            False,
            f"storage {tmp_path}/runs cannot be written: File exists",
            "give every node access to storage_path",
        )
    ]
