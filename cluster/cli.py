"""`gru4rec cluster`: bring a cluster up, hand a search over to it, fetch the best model, take the cluster down."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gru4rec.cli.options import FILE, FOLDER, json_option
from gru4rec.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from cluster.checks import Check
    from cluster.job import Job
    from cluster.spec import ClusterSpec

cluster_option = click.option("--cluster", "cluster_file", type=FILE, help="cluster.toml, on a machine new to it.")


@click.group()
def cluster() -> None:
    """Run searches on Ray clusters: local, running, of a cloud, of Kubernetes, of Slurm."""


@cluster.command()
@click.argument("cluster_file", metavar="CLUSTER", type=FILE)
@click.option("--nodes", type=click.IntRange(1), help="Of a local cluster: nodes in all, the head among them.")
def up(cluster_file: Path, nodes: int | None) -> None:
    """Bring up the cluster of the file CLUSTER (cluster.toml)."""
    from cluster.backends import make_backend

    make_backend(_with_nodes(_read(cluster_file), nodes)).up(note)


@cluster.command()
@click.argument("cluster_file", metavar="CLUSTER", type=FILE)
def down(cluster_file: Path) -> None:
    """Take down the cluster that `up` brought up."""
    from cluster.backends import make_backend

    make_backend(_read(cluster_file)).down(note)


@cluster.command()
@click.argument("cluster_file", metavar="CLUSTER", type=FILE)
@click.argument("search_file", metavar="[SEARCH]", type=FILE, required=False)
@click.option("--out", type=FOLDER, help="Write the files to this folder instead of printing them.")
def render(cluster_file: Path, search_file: Path | None, out: Path | None) -> None:
    """Show the files that `up`, and with the file SEARCH `submit`, would use. Nothing is brought up."""
    import tempfile

    from cluster.backends import make_backend
    from cluster.package import make_folder, pack_search
    from gru4rec.files import atomic_file
    from tuning.spec import read_spec

    specification = _read(cluster_file)
    with tempfile.TemporaryDirectory(prefix="gru4rec-") as folder:
        submission = None
        if search_file is not None:
            make_folder(Path(folder))
            submission = pack_search(Path(folder), specification, read_spec(search_file), specification.name, None)
        files = make_backend(specification).render(submission)
    for name, text in files.items():
        if out is None:
            click.echo(f"# {name}\n{text}")
        else:
            with atomic_file(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            note(f"wrote {out / name}")


@cluster.command()
@click.argument("cluster_file", metavar="[CLUSTER]", type=FILE, required=False)
@click.argument("search_file", metavar="[SEARCH]", type=FILE, required=False)
@click.option("--storage", default=".", show_default=True, help="Folder or URI for results, without a CLUSTER.")
@json_option
def doctor(cluster_file: Path | None, search_file: Path | None, storage: str, as_json: bool) -> None:
    """Check this machine, and the cluster of the file CLUSTER with what the file SEARCH needs, before a launch."""
    from cluster.checks import check_this_machine
    from cluster.doctor import examine
    from gru4rec.errors import ClusterError
    from tuning.spec import read_spec

    if cluster_file is None:
        checks = check_this_machine(storage)
    else:
        checks = examine(_read(cluster_file), read_spec(search_file) if search_file else None)
    if as_json:
        print_json([check.as_row() for check in checks])
    else:
        _print_checks(checks)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ClusterError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")


@cluster.command()
@click.argument("cluster_file", metavar="CLUSTER", type=FILE)
@click.argument("search_file", metavar="SEARCH", type=FILE)
@click.option("--id", "submission_id", help="Name of the submission; default: the cluster's name and the time.")
@click.option("--resume", is_flag=True, help="Go on with the search of that --id, whose process or head was lost.")
@click.option("--changed", is_flag=True, help="Go on although code, data or settings have changed.")
@click.option("--detach", is_flag=True, help="Do not follow it.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and what it would cost; submit nothing.")
def submit(
    cluster_file: Path,
    search_file: Path,
    submission_id: str | None,
    resume: bool,
    changed: bool,
    detach: bool,
    dry_run: bool,
) -> None:
    """Hand the search of the file SEARCH (search.toml) over to the cluster of the file CLUSTER (cluster.toml).

    The search goes on when this command, or this machine, ends.
    """
    from cluster.job import submit as submit_search

    if dry_run:
        _estimate(cluster_file, search_file)
        return
    job = submit_search(
        cluster_file,
        search_file,
        submission_id,
        resume=resume,
        changed=changed,
        on_stage=note,
        on_checks=_note_failed,
    )
    click.echo(job.id)
    if not detach:
        _follow(job)


@cluster.command()
@click.argument("target", metavar="SUBMISSION_OR_CLUSTER")
@cluster_option
@json_option
def status(target: str, cluster_file: Path | None, as_json: bool) -> None:
    """Show the state of a submission, or the nodes of the cluster of a file."""
    from cluster.backends import make_backend
    from cluster.job import find_job
    from tuning.terminal import render_progress

    if target.endswith(".toml"):
        rows = make_backend(_read(Path(target))).status()
        print_json(rows) if as_json else print_table(rows, [key for key in rows[0] if key != "id"] if rows else [])
        return
    job = find_job(target, cluster_file)
    state, progress = job.state(), job.progress()
    if as_json:
        print_json({"id": job.id, "state": state, "progress": dataclasses.asdict(progress) if progress else None})
        return
    click.echo(f"{job.id}: {state}" + (f" | {render_progress(progress)}" if progress else ""))


@cluster.command()
@click.argument("submission_id")
@cluster_option
def logs(submission_id: str, cluster_file: Path | None) -> None:
    """Print all that a submission printed so far."""
    from cluster.job import find_job

    click.echo(find_job(submission_id, cluster_file).logs(), nl=False)


@cluster.command()
@click.argument("submission_id")
@cluster_option
def wait(submission_id: str, cluster_file: Path | None) -> None:
    """Follow a submission until it has ended."""
    from cluster.job import find_job

    _follow(find_job(submission_id, cluster_file))


@cluster.command()
@click.argument("submission_id")
@cluster_option
def stop(submission_id: str, cluster_file: Path | None) -> None:
    """Have a submission end; it exports the best model so far."""
    from cluster.job import find_job

    find_job(submission_id, cluster_file).stop()
    note(f"asked {submission_id} to end; gru4rec cluster wait {submission_id}")


@cluster.command()
@click.argument("submission_id")
@click.argument("out", type=FOLDER)
@cluster_option
@json_option
def fetch(submission_id: str, out: Path, cluster_file: Path | None, as_json: bool) -> None:
    """Bring the best model of a submission to the folder OUT, verified, and say what the search cost."""
    from cluster.job import find_job

    job = find_job(submission_id, cluster_file)
    folder, account = job.fetch_model(out), job.account()
    if as_json:
        print_json({"model": str(folder), "account": account})
        return
    print_table(account["nodes"], ["node", "group", "hours", "cost"])
    note(
        f"{account['node_hours']:.3f} node-hours, {account['cost']:.2f} {account['currency']}, "
        f"{account['used']:.0%} of them used by trials; wrote {folder}"
    )


def _read(path: Path) -> ClusterSpec:
    from cluster.spec import read_cluster

    return read_cluster(path)


def _with_nodes(specification: ClusterSpec, nodes: int | None) -> ClusterSpec:
    """Return the specification with so many nodes of a local cluster."""
    from cluster.spec import NodeGroup
    from gru4rec.errors import SpecificationError

    if nodes is None:
        return specification
    if specification.backend != "local":
        raise SpecificationError(f"--nodes is for local clusters, {specification.name} is of {specification.backend}")
    first = specification.workers[0] if specification.workers else NodeGroup("worker")
    group = dataclasses.replace(first, min=nodes - 1, max=max(1, nodes - 1))
    return dataclasses.replace(specification, workers=(group,))


def _follow(job: Job) -> None:
    import sys

    from cluster.jobs import SUCCEEDED
    from gru4rec.errors import ClusterError, SearchError
    from tuning.terminal import ProgressLine

    line = ProgressLine(sys.stderr)
    try:
        state = job.wait(line.show, line.say)
    except (KeyboardInterrupt, ClusterError):
        note(f"\n{job.id} goes on without us; gru4rec cluster wait {job.id}, or stop {job.id}")
        raise
    line.say(f"{job.id} {state}")
    if state != SUCCEEDED:
        raise SearchError(f"submission {job.id} {state}", f"gru4rec cluster logs {job.id}")


def _estimate(cluster_file: Path, search_file: Path) -> None:
    from cluster.account import estimate_account
    from cluster.package import log_bytes
    from tuning.estimate import estimate_cost
    from tuning.search import make_task
    from tuning.search_data import read_data
    from tuning.spec import read_spec

    specification, search = _read(cluster_file), read_spec(search_file)
    cost = estimate_cost(search, make_task(search, read_data(search)))
    note(f"{search.trials} trials on {specification.name} ({specification.backend})")
    note(f"logs: {log_bytes(search) / 1e6:.1f} MB")
    note(f"results to {specification.storage_path}")
    note(estimate_account(specification, search, cost).render())


def _print_checks(checks: list[Check]) -> None:
    rows = [
        {
            "check": check.name,
            "result": "ok" if check.passed else "PROBLEM",
            "found": check.detail + ("" if check.passed or not check.remedy else f"; {check.remedy}"),
        }
        for check in checks
    ]
    print_table(rows, ["check", "result", "found"])


def _note_failed(checks: list[Check]) -> None:
    for check in checks:
        if not check.passed:
            note(f"{check.name}: {check.detail}; {check.remedy}")
    note(f"{sum(check.passed for check in checks)} of {len(checks)} checks passed")
