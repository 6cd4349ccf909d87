"""Slurm: no cluster stands there; each submission is a job that starts Ray on its own nodes, searches, and ends.

The nodes of a job are fixed when it starts, all of one kind, and no other job runs on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.backends import Say
from cluster.backends.slurm_jobs import SlurmJobs, nodes_of, running_jobs
from cluster.backends.slurm_script import (
    SCRIPT,
    SEARCH_SCRIPT,
    node_count,
    render_script,
    render_search_script,
)
from cluster.jobs import Jobs, Submission
from cluster.processes import run_command
from cluster.spec import ClusterSpec, NodeGroup
from gru4rec.errors import ClusterError, SpecificationError
from gru4rec.hyperparameters import Integer
from tuning.sections import Section

TIME_LIMIT = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d{1,3}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)")
WORD = re.compile(r"[^\s'\"\\]+")
PORTS = (1024, 65535)
# What the job's script relies on, or says from other keys of cluster.toml.
RESERVED = {
    *("account", "A", "array", "a", "chdir", "D", "constraint", "C", "cpus-per-task", "c", "error", "e", "exclusive"),
    *("export", "gpus", "G", "gpus-per-node", "gres", "job-name", "J", "mem", "mem-per-cpu", "mem-per-gpu", "nodes"),
    *("N", "ntasks", "n", "ntasks-per-node", "open-mode", "output", "o", "overcommit", "O", "oversubscribe", "s"),
    *("partition", "p", "qos", "q", "requeue", "signal", "time", "t", "wait", "W", "wrap"),
}


@dataclass(frozen=True)
class SlurmSettings:
    """The table [slurm] of cluster.toml.

    Parameters
    ----------
    partition, account, qos, constraint : str, optional
        As in sbatch.
    time_limit : str, optional
        [days-]hours:minutes:seconds; the partition's own by default.
    grace_s : int
        What a search has to export its best model: how long before the time limit it is asked to end, and how long
        after that it is killed.
    gpu_type : str, optional
        Of --gres=gpu:TYPE:COUNT; the count is `gpus` of the nodes.
    sbatch : tuple of str
        More options of sbatch, one each.
    setup : tuple of str
        Lines of bash that make `python` and `ray` available on the first node, such as 'module load python/3.11'.
    port : int, optional
        Of Ray's head; from the job's number by default.
    folder : Path
        Of cluster.toml; `setup` runs there.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_limit: str | None = None
    grace_s: int = 120
    gpu_type: str | None = None
    sbatch: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    port: int | None = None
    folder: Path = Path()


def parse_settings(section: Section, folder: Path) -> SlurmSettings:
    """Read [slurm]; problems are noted in the section."""
    words = {key: _word(section, key) for key in ("partition", "account", "qos", "constraint", "gpu_type")}
    time_limit = section.text("time_limit", None)
    grace_s = section.number("grace_s", SlurmSettings.grace_s, Integer(1))
    if time_limit is not None:
        section.problems += _time_problems(section, time_limit, grace_s)
    options, setup = (section.texts(key) for key in ("sbatch", "setup"))
    section.problems += [problem for option in options for problem in _option_problems(section, option)]
    section.problems += [
        f"{section.place('setup')} must be single lines, got {line!r}" for line in setup if "\n" in line
    ]
    port = section.number("port", None, Integer(PORTS[0], (None,)))
    if port is not None and port > PORTS[1]:
        section.problems.append(f"{section.place('port')} must be <= {PORTS[1]}, got {port}")
    section.reject_unknown()
    return SlurmSettings(
        **words,
        time_limit=time_limit,
        grace_s=grace_s,
        sbatch=tuple(options),
        setup=tuple(setup),
        port=port,
        folder=folder,
    )


def seconds(time_limit: str) -> int | None:
    """Return a time limit in seconds, or None when it is not [days-]hours:minutes:seconds.

    >>> seconds("12:00:00"), seconds("1-00:00:01"), seconds("90")
    (43200, 86401, None)
    """
    match = TIME_LIMIT.fullmatch(time_limit)
    if match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def make_backend(spec: ClusterSpec) -> SlurmBackend:
    """Return the backend.

    Raises
    ------
    SpecificationError
        When the cluster is none that a job of Slurm can be.
    """
    problems = list(_problems(spec))
    if problems:
        raise SpecificationError("\n  ".join([f"cluster {spec.name} on Slurm: {problems[0]}", *problems[1:]]))
    return SlurmBackend(spec)


class SlurmBackend:
    """Jobs of Slurm, each with a Ray of its own.

    Parameters
    ----------
    spec : ClusterSpec
    """

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec

    def render(self, submission: Submission | None = None) -> dict[str, str]:
        """Return the two scripts of a submission."""
        submission = submission or self._example()
        return {
            SCRIPT: render_script(self.spec, submission),
            SEARCH_SCRIPT: render_search_script(self.spec, submission),
        }

    def up(self, say: Say) -> None:
        """Ask Slurm whether it would take a job; start nothing.

        Raises
        ------
        ClusterError
            When it would not.
        """
        run_command(
            ["sbatch", "--test-only", f"--chdir={Path.home()}"],
            stdin=render_script(self.spec, self._example()),
            remedy="see `sinfo` for partitions and their nodes, and [slurm] in cluster.toml",
        )
        count = node_count(self.spec)
        say(f"Slurm takes jobs of {count} {'node' if count == 1 else 'nodes'} like this one.")
        say("Nothing was started, and nothing stays up: each submission is a job with a Ray of its own.")

    def down(self, say: Say) -> None:
        """Say that there is nothing to take down."""
        say("Nothing stays up on Slurm: each submission's job ends with its search, or by `gru4rec cluster stop ID`.")

    def status(self) -> list[dict[str, Any]]:
        """Return a row per node of this cluster's jobs, and one per job that waits.

        Raises
        ------
        ClusterError
            When it has no job.
        """
        jobs = running_jobs(self.spec)
        if not jobs:
            raise ClusterError(f"cluster {self.spec.name} has no job in Slurm", "each submission is a job of its own")
        return [row for job in jobs for row in self._rows(job)]

    def jobs(self) -> AbstractContextManager[Jobs]:
        """Submissions go to sbatch; nothing is held open."""
        return nullcontext(SlurmJobs(self.spec))

    def _example(self) -> Submission:
        return Submission("SUBMISSION", Path(), ("-m", "cluster.driver"), self.spec.variables)

    def _rows(self, job: dict[str, str]) -> Iterator[dict[str, Any]]:
        named = {"state": job["state"], "job": job["job"], "submission": job["submission"]}
        for index, node in enumerate(nodes_of(job["nodes"]) or [f"none yet ({job['reason']})"]):
            group = "head" if index == 0 else "workers"
            yield {"node": node, "group": group, **named, "cpus": self.spec.head.cpus, "gpus": self.spec.head.gpus}


def _word(section: Section, key: str) -> str | None:
    value: str | None = section.text(key, None)
    if value is not None and not WORD.fullmatch(value):
        section.problems.append(f"{section.place(key)} must be one word without quotes, got {value!r}")
    return value


def _time_problems(section: Section, time_limit: str, grace_s: int) -> Iterator[str]:
    limit = seconds(time_limit)
    place = section.place("time_limit")
    if limit is None:
        yield f"{place} must be hours:minutes:seconds or days-hours:minutes:seconds, got {time_limit!r}"
    elif limit <= grace_s:
        yield f"{place} must be longer than {section.place('grace_s')} ({grace_s} s), got {time_limit}"


def _option_problems(section: Section, option: str) -> Iterator[str]:
    place = section.place("sbatch")
    match = re.fullmatch(r"(?:--([a-z-]+)(?:=.*)?|-([a-zA-Z]).*)", option)
    if match is None:
        yield f"{place} must be options such as '--reservation=NAME', got {option!r}"
    elif (match[1] or match[2]) in RESERVED:
        yield f"{place}: {option!r} is set from other keys of cluster.toml, or must stay as it is"


def _problems(spec: ClusterSpec) -> Iterator[str]:
    """Yield what a job of Slurm cannot be."""
    if "://" in spec.storage_path:
        yield f"storage_path must be a folder that login and compute nodes share, got {spec.storage_path!r}"
    if spec.install:
        yield "environment.install must be false: compute nodes seldom reach a package index; see [slurm] setup"
    if spec.head.cpus < 1:
        yield "head.cpus must be >= 1: the head is a node like the others, and runs trials too"
    if spec.settings.gpu_type and not spec.head.gpus:
        yield f"slurm.gpu_type is {spec.settings.gpu_type!r}, but head.gpus is 0"
    for group in spec.groups:
        yield from _group_problems(group, spec.head)


def _group_problems(group: NodeGroup, head: NodeGroup) -> Iterator[str]:
    place = "head" if group is head else f"workers.{group.name}"
    if group is not head and group.min != group.max:
        yield f"{place}.max must be min ({group.min}), got {group.max}: Slurm gives a job all of its nodes at its start"
    for key in ("cpus", "gpus", "memory_gib"):
        here, there = getattr(group, key), getattr(head, key)
        if here != there:
            yield f"{place}.{key} must be head.{key} ({there}), got {here}: nodes of one job are all of one kind"
    if group.machine is not None:
        yield f"{place}.machine has no meaning on Slurm: name nodes by slurm.constraint or slurm.partition"
    if group.spot:
        yield f"{place}.spot has no meaning on Slurm"
