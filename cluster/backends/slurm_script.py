"""What Slurm is handed for a submission: the job's script, and the one that runs the search on its first node.

Only text is made here, and the names of files told; `cluster.backends.slurm_jobs` writes and submits.

`ray symmetric-run` starts Ray, runs the search, and ends with 0 when Ray did not start at all. So the search's exit
status goes through a file, and a job without that file has failed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gru4rec.errors import SpecificationError

if TYPE_CHECKING:
    from cluster.backends.slurm import SlurmSettings
    from cluster.jobs import Submission
    from cluster.spec import ClusterSpec

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SUBMISSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
OBJECT_STORE_SHARE = 0.3
INTERRUPTED = 130
TERMINATED = 143
SCRIPT, SEARCH_SCRIPT = "job.sh", "search.sh"


@dataclass(frozen=True)
class SubmissionFolder:
    """The files of one submission on the storage that login and compute nodes share.

    Parameters
    ----------
    storage_path : str
    submission_id : str
    """

    storage_path: str
    submission_id: str

    @property
    def folder(self) -> Path:
        """For its owner only."""
        return Path(self.storage_path) / "submissions" / self.submission_id

    @property
    def work(self) -> Path:
        """The working folder of the search."""
        return self.folder / "work"

    @property
    def script(self) -> Path:
        return self.folder / SCRIPT

    @property
    def search_script(self) -> Path:
        return self.folder / SEARCH_SCRIPT

    @property
    def log(self) -> Path:
        """What the search prints, and what the job says of itself."""
        return self.folder / "slurm.log"

    @property
    def ray_log(self) -> Path:
        """What Ray says when it starts and stops."""
        return self.folder / "ray.log"

    @property
    def token(self) -> Path:
        """The token of this job's Ray, mode 0600; gone when the job has ended."""
        return self.folder / "token"

    @property
    def job_id(self) -> Path:
        """Slurm's number of the job."""
        return self.folder / "job_id"

    @property
    def stopped(self) -> Path:
        """There once the search was asked to end."""
        return self.folder / "stopped"

    @property
    def exit_status(self) -> Path:
        """Written by the job's script when it ends; not there when Slurm killed it."""
        return self.folder / "exit_status"


def render_script(spec: ClusterSpec, submission: Submission) -> str:
    """Return the batch script of a submission."""
    files = SubmissionFolder(spec.storage_path, submission.id)
    settings: SlurmSettings = spec.settings
    values = {
        "directives": "\n".join(f"#SBATCH {line}" for line in _directives(spec, submission)),
        "folder": shlex.quote(str(files.folder)),
        "nodes": str(node_count(spec)),
        "grace_s": str(settings.grace_s),
        "setup": _setup(settings),
        "variables": "".join(_exports(submission)),
        "port": str(settings.port) if settings.port else "$((20000 + SLURM_JOB_ID % 10000))",
        "step": " ".join(["--cpu-bind=none", "--kill-on-bad-exit=0", "--no-kill", *_resources(spec)]),
        "ray": " ".join(_ray_options(spec)),
        "workers": _WORKERS if node_count(spec) > 1 else "",
    }
    return _filled(_JOB, values)


def render_search_script(spec: ClusterSpec, submission: Submission) -> str:
    """Return the script that `ray symmetric-run` starts on the first node, once all nodes have joined."""
    files = SubmissionFolder(spec.storage_path, submission.id)
    command = shlex.join(["python", *submission.command])
    return _filled(_SEARCH, {"folder": shlex.quote(str(files.folder)), "command": command})


def node_count(spec: ClusterSpec) -> int:
    """Return the nodes of an allocation: the head and all workers."""
    return 1 + sum(group.max for group in spec.workers)


def job_name(spec: ClusterSpec, submission_id: str) -> str:
    """Return what squeue shows for a submission."""
    return f"gru4rec-{spec.name}:{submission_id}"


def _directives(spec: ClusterSpec, submission: Submission) -> Iterable[str]:
    settings: SlurmSettings = spec.settings
    yield f"--job-name={job_name(spec, submission.id)}"
    yield "--output=slurm.log"
    yield "--open-mode=append"
    yield f"--nodes={node_count(spec)}"
    yield "--ntasks-per-node=1"
    yield from _resources(spec)
    # `ray stop`, with which symmetric-run ends, stops every Ray of this user on a node: no other job may be there.
    yield "--exclusive"
    yield "--no-requeue"
    yield "--no-kill"
    yield f"--signal=B:USR1@{settings.grace_s}"
    named = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": settings.time_limit,
        "constraint": settings.constraint,
    }
    yield from (f"--{option}={shlex.quote(value)}" for option, value in named.items() if value)
    yield from settings.sbatch


def _resources(spec: ClusterSpec) -> Iterable[str]:
    yield f"--cpus-per-task={spec.head.cpus}"
    # 0 is all the memory of the node.
    yield f"--mem={int(spec.head.memory_gib * 1024)}M" if spec.head.memory_gib else "--mem=0"
    if spec.head.gpus:
        kind = f"{spec.settings.gpu_type}:" if spec.settings.gpu_type else ""
        yield f"--gres=gpu:{kind}{spec.head.gpus}"


def _ray_options(spec: ClusterSpec) -> Iterable[str]:
    yield f"--num-cpus={spec.head.cpus}"
    yield f"--num-gpus={spec.head.gpus}"
    if spec.head.memory_gib:
        # Else Ray may take its share from the node's memory rather than from the job's.
        yield f"--object-store-memory={int(spec.head.memory_gib * OBJECT_STORE_SHARE * 1024) << 20}"


def _setup(settings: SlurmSettings) -> str:
    if not settings.setup:
        return ""
    place = shlex.quote(str(settings.folder))
    return "\n".join([f"cd {place} || fail {shlex.quote(f'no folder {settings.folder} here')}", *settings.setup, ""])


def _exports(submission: Submission) -> Iterable[str]:
    for name, value in submission.variables.items():
        if not VARIABLE.fullmatch(name):
            raise SpecificationError(f"environment.variables: {name!r} is no name of an environment variable")
        yield f"export {name}={shlex.quote(value)}\n"


def _filled(template: str, values: dict[str, str]) -> str:
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], template)


_JOB = """\
#!/bin/bash
# One search as one job: Ray on all its nodes, the search on the first. Rendered by gru4rec cluster.
@directives@

readonly folder=@folder@ nodes=@nodes@ grace_s=@grace_s@
head='' workers='' made=''

fail() {
  echo "gru4rec: $1" >&2
  exit 1
}

# `gru4rec cluster stop`, or the time limit is near: the search exports its best model, and ends.
interrupt() {
  touch "$folder/stopped"
  echo 'gru4rec: asked to end' >&2
  (sleep "$grace_s" && kill "$head") 2>/dev/null &
  if [[ -s $folder/search.pid ]]; then
    kill -INT "$(<"$folder/search.pid")"
  elif [[ -n $head ]]; then
    kill "$head"
  else
    exit 130
  fi
}

finish() {
  local status=$?
  trap '' USR1 TERM
  rm -f -- "$folder/token" "$folder/search.pid"
  echo "$status" >"$folder/.exit_status" && mv -- "$folder/.exit_status" "$folder/exit_status"
  # Of a node that was lost no answer comes, and none is waited for.
  for pid in $head $workers; do
    kill "$pid"
    timeout 20 tail -f /dev/null --pid="$pid"
    kill -KILL "$pid"
  done 2>/dev/null
  # Ray's processes are daemons, which Slurm itself ends only where it tracks a job by cgroups; those of a node are of
  # the session that was recorded there.
  local clean='[[ ! -s $RAY_TMPDIR/session ]] || pkill -KILL --session "$(<"$RAY_TMPDIR/session")"
    rm -rf -- "$RAY_TMPDIR"'
  [[ -z $made ]] || {
    timeout 60 srun --nodes="$nodes" --ntasks-per-node=1 --no-kill bash -c "$clean" || bash -c "$clean"
  } >>"$folder/ray.log" 2>&1
  exit "$status"
}

trap interrupt USR1
trap 'exit 143' TERM
trap finish EXIT

@setup@
[[ -d $folder/work ]] || fail "no folder $folder/work on $(hostname): storage_path must be shared by all nodes"
cd "$folder/work" || exit 1
command -v ray >/dev/null || fail "ray is not installed on $(hostname): activate an environment in [slurm] setup"

@variables@export PYTHONPATH="$folder/work${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
unset RAY_ADDRESS RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token"
export RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# Short, for the paths of Unix sockets; for its owner only, as Ray lets all write to the folders that it makes.
export RAY_TMPDIR="/tmp/gru4rec-$SLURM_JOB_ID"
# Ray holds more open files than the usual soft limit.
ulimit -Sn "$(ulimit -Hn)"

# symmetric-run takes for the head the node that has this address itself; a name may stand for 127.0.1.1 there.
own=" $(hostname -I) "
ip=''
for candidate in $(getent ahostsv4 "$(hostname)" | awk '{print $1}') $own; do
  [[ $candidate != 127.* && $own == *" $candidate "* ]] && ip=$candidate && break
done
[[ -n $ip ]] || fail "$(hostname) has no address but loopback"
readonly address="$ip:@port@"

srun --nodes="$nodes" --ntasks-per-node=1 mkdir -m 700 -- "$RAY_TMPDIR" ||
  fail "$RAY_TMPDIR cannot be made on all nodes"
made=yes

readonly step=(--ntasks-per-node=1 @step@)
readonly session=(setsid --wait bash -c 'echo "$$" >"$RAY_TMPDIR/session" && exec "$@"' session)
readonly run=("${session[@]}" ray symmetric-run --address "$address" --min-nodes "$nodes" @ray@)
srun --nodes=1 --ntasks=1 --relative=0 "${step[@]}" \\
  "${run[@]}" --include-dashboard=false -- bash "$folder/search.sh" "$address" >>"$folder/ray.log" 2>&1 &
head=$!
@workers@while kill -0 "$head" 2>/dev/null; do
  wait -n
  if [[ -n $workers ]] && ! kill -0 "$workers" 2>/dev/null; then
    workers=''
    # They did not join, and will not.
    [[ -e $folder/search.pid || -e $folder/search_status ]] || kill "$head"
  fi
done

[[ ! -s $folder/search_status ]] || exit "$(<"$folder/search_status")"
[[ ! -e $folder/stopped ]] || exit 130
tail -n 40 "$folder/ray.log"
fail "the search did not run to its end: Ray did not start, or was killed; $folder/ray.log says more"
"""

_WORKERS = """\
srun --nodes="$((nodes - 1))" --ntasks="$((nodes - 1))" --relative=1 "${step[@]}" \\
  "${run[@]}" -- true >>"$folder/ray.log" 2>&1 &
workers=$!
"""

_SEARCH = """\
#!/bin/bash
# The search, in Ray's cluster at the address $1: its process id for a stop, its exit status for the job's script.
readonly folder=@folder@
exec >>"$folder/slurm.log" 2>&1
export RAY_ADDRESS=$1
[[ ! -e $folder/stopped ]] || exit 130
bash -c 'echo "$$" >"$0" && exec "$@"' "$folder/search.pid" @command@
status=$?
rm -f -- "$folder/search.pid"
echo "$status" >"$folder/.search_status" && mv -- "$folder/.search_status" "$folder/search_status"
exit "$status"
"""
