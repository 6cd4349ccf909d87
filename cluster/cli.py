"""`gru4rec cluster`: is this machine, or a cluster, ready?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from gru4rec.cli.options import FOLDER, json_option
from gru4rec.cli.output import print_json, print_table


@click.group()
def cluster() -> None:
    """Check where a search is to run."""


@cluster.command()
@click.option("--address", help="A running Ray cluster to check too, e.g. 10.0.0.1:6379 or auto.")
@click.option("--storage", type=FOLDER, default=Path(), show_default=True, help="Folder for results.")
@json_option
def doctor(address: str | None, storage: Path, as_json: bool) -> None:
    """Check versions, resources and storage before a launch."""
    from cluster.doctor import check_cluster, check_this_machine
    from gru4rec.errors import ClusterError

    checks = check_this_machine(storage)
    if address is not None:
        checks += check_cluster(address)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [
            {"check": check.name, "result": "ok" if check.passed else "PROBLEM", "found": check.detail}
            for check in checks
        ]
        print_table(rows, ["check", "result", "found"])
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ClusterError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")
