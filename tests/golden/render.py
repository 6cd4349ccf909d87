"""Render all golden files anew, on purpose: `python tests/golden/render.py`. Look at the difference before a commit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GOLDEN = Path(__file__).parent
ROOT = GOLDEN.parents[1]
sys.path.insert(0, str(ROOT))
os.environ |= {"HOME": "/home/me", "GRU4REC_STATE": "/home/me/.local/state/gru4rec-tune"}

from cluster.backends import make_backend  # noqa: E402
from cluster.jobs import Submission  # noqa: E402
from cluster.spec import read_cluster  # noqa: E402

DRIVER = ("-m", "cluster.driver")
CASES = {
    "ray_up/aws": ("examples/cluster-aws.toml", None),
    "ray_up/gcp": ("examples/cluster-gcp.toml", None),
    "ray_up/azure": ("examples/cluster-azure.toml", None),
    "ray_up/onprem": ("examples/cluster-onprem.toml", None),
    "kuberay": (
        "examples/cluster-kuberay.toml",
        Submission(
            "shop-k8s-1",
            GOLDEN / "kuberay" / "submission",
            DRIVER,
            variables={"SHOP": "eu"},
            packages=("torch==2.13.0",),
        ),
    ),
    "slurm": ("examples/cluster-slurm.toml", None),
}

if __name__ == "__main__":
    for name, (cluster, submission) in CASES.items():
        for file, text in make_backend(read_cluster(ROOT / cluster)).render(submission).items():
            (GOLDEN / name).mkdir(parents=True, exist_ok=True)
            # The folder of cluster.toml is in what is rendered for Slurm.
            text = text.replace(str(ROOT / "examples"), "/home/me/project")
            (GOLDEN / name / file).write_text(text, encoding="utf-8")
