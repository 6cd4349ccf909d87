"""What the doctor finds, here and on the nodes of a cluster."""

from __future__ import annotations

import pytest
import ray

from cluster import doctor
from cluster.doctor import check_cluster, check_this_machine, installed_versions
from gru4rec.errors import ClusterError


def test_versions_that_must_agree_are_found():
    versions = installed_versions()
    assert versions["ray"] == ray.__version__
    assert set(versions) == {"python", *doctor.PACKAGES}


def test_a_missing_package_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    checks = {check.name: check for check in check_this_machine(tmp_path)}
    assert (checks["no-such-package"].passed, checks["no-such-package"].detail) == (False, "not installed")
    assert checks["storage"].passed


def test_storage_that_is_yet_to_be_made_is_judged_by_its_parent(tmp_path):
    checks = {check.name: check for check in check_this_machine(tmp_path / "runs" / "a")}
    assert checks["storage"].passed
    assert list(tmp_path.iterdir()) == []


def test_a_node_of_another_version_is_a_problem(ray_local, monkeypatch):
    node = next(node for node in ray.nodes() if node["Alive"])
    assert doctor._check_node(node).passed
    monkeypatch.setattr(doctor, "installed_versions", lambda: {"ray": "0.1"})
    real = installed_versions()

    class Task:
        def __call__(self, function):
            return self

        remote = staticmethod(lambda: ray.put(real))

    monkeypatch.setattr(ray, "remote", lambda **options: Task())
    check = doctor._check_node(node)
    assert not check.passed
    assert f"ray {real['ray']} there, 0.1 here" in check.detail


def test_a_dead_node_is_a_problem():
    check = doctor._check_node({"NodeManagerAddress": "10.0.0.9", "Alive": False})
    assert (check.name, check.passed, check.detail) == ("node 10.0.0.9", False, "dead")


def test_a_cluster_that_does_not_answer():
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at 127\.0\.0\.1:1: .*refused; hint: "):
        check_cluster("127.0.0.1:1")
