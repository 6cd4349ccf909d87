"""cluster.toml: what is read, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.spec import NodeGroup, read_cluster
from gru4rec.errors import SpecificationError

ROOT = Path(__file__).parents[3]
GOOD = """
backend = "local"
storage_path = "runs"
[head]
cpus = 0
price_per_hour = 0.1
[workers.small]
cpus = 4
min = 1
max = 8
[environment.variables]
OMP_NUM_THREADS = "1"
"""


def read(tmp_path, text):
    (tmp_path / "shop.toml").write_text(text)
    return read_cluster(tmp_path / "shop.toml")


def test_what_is_read(tmp_path):
    spec = read(tmp_path, GOOD)
    assert (spec.name, spec.backend, spec.storage_path) == ("shop", "local", str(tmp_path / "runs"))
    assert spec.groups == (NodeGroup("head", cpus=0, price_per_hour=0.1), NodeGroup("small", cpus=4, min=1, max=8))
    assert spec.elastic
    assert spec.slots(cpus_per_trial=2, gpus_per_trial=0.0) == 16
    assert spec.variables == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("local", "loca"), "unknown backend 'loca'; did you mean 'local'?"),
        (('storage_path = "runs"', ""), "storage_path is missing: name a folder that every node has"),
        (("max = 8", "max = 0"), "workers.small.max must be a whole number >= 1, got 0"),
        (("min = 1", "min = 9"), "workers.small.max must be >= min (9), got 8"),
        (("cpus = 4", "cpu = 4"), "unknown key 'cpu'; did you mean 'cpus'? in [workers.small]"),
        (("OMP_NUM_THREADS", "AWS_SECRET_ACCESS_KEY"), "looks like a secret, and what is written here is shown"),
        (('storage_path = "runs"', 'storage_path = "runs"\nname = "My Shop"'), "name must be lower-case letters"),
        (('"runs"', '"~nobody-of-this-name/runs"'), "storage_path: '~nobody-of-this-name/runs' is no path: "),
        (('"runs"', '"a\\u0000b"'), "storage_path: 'a\\x00b' is no path: embedded null byte"),
        (
            ("cpus = 4", f"cpus = 1{'0' * 400}"),
            "workers.small.cpus must be a whole number from 1 to 9223",
        ),
        (("max = 8", "max = 8\nmemory_gib = inf"), "workers.small.memory_gib must be a number >= 0, got inf"),
    ],
)
def test_mistakes(tmp_path, change, said):
    with pytest.raises(SpecificationError) as raised:
        read(tmp_path, GOOD.replace(*change))
    assert said in str(raised.value)


def test_problems_are_told_together(tmp_path):
    with pytest.raises(SpecificationError, match=r"shop\.toml: 2 problems"):
        read(tmp_path, GOOD.replace("max = 8", "max = 0").replace("loca", "x"))


def test_gpus_bound_the_trials_of_a_node():
    assert NodeGroup("gpu", cpus=16, gpus=2).slots(cpus_per_trial=1, gpus_per_trial=0.5) == 4
    assert NodeGroup("cpu", cpus=16).slots(cpus_per_trial=3, gpus_per_trial=0.0) == 5


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/cluster-*.toml")), ids=lambda path: path.stem)
def test_examples(path):
    assert read_cluster(path).groups
