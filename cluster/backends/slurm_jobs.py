"""Submissions as jobs of Slurm: `Jobs` over sbatch, squeue, sacct, scancel and the shared storage."""

from __future__ import annotations

import getpass
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cluster.backends.slurm_script import (
    INTERRUPTED,
    SUBMISSION_ID,
    TERMINATED,
    SubmissionFolder,
    job_name,
    render_script,
    render_search_script,
)
from cluster.jobs import ENDED, FAILED, QUEUED, RUNNING, STOPPED, SUCCEEDED, Submission
from cluster.processes import run_command
from cluster.spec import ClusterSpec
from cluster.token import make_token, read_token
from gru4rec.errors import ClusterError
from gru4rec.files import atomic_file

# Slurm's words for jobs that have not ended, and for those that somebody ended; all others are failures.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
AT_WORK = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
CANCELLED = ("CANCELLED", "REVOKED")
SECONDS_BETWEEN_LINES = 1.0
LOOKS_PER_QUESTION = 10
SECONDS_FOR_STORAGE = 10.0


class SlurmJobs:
    """Where searches are submitted to.

    Parameters
    ----------
    spec : ClusterSpec
        Its `storage_path` is shared by this machine and the compute nodes.
    """

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec

    def submit(self, submission: Submission) -> None:
        """Copy the working folder to the shared storage, and hand Slurm the job.

        Raises
        ------
        ClusterError
            When the id was used before, or Slurm refuses the job; nothing is left behind then.
        """
        if not SUBMISSION_ID.fullmatch(submission.id):
            raise ClusterError(f"a submission's id must be letters, digits, '.', '_' and '-', got {submission.id!r}")
        if submission.packages:
            raise ClusterError("packages cannot be installed by a job of Slurm", "see [slurm] setup in cluster.toml")
        files = SubmissionFolder(self.spec.storage_path, submission.id)
        _make_folder(files)
        try:
            self._write(files, submission)
            answer = run_command(["sbatch", "--parsable", f"--chdir={files.folder}", str(files.script)])
            _write_text(files.job_id, answer.strip().split(";")[0])
        except BaseException:
            shutil.rmtree(files.folder)
            raise

    def state(self, submission_id: str) -> str:
        """Return how far the submission is: by its own exit status when it has one, else by what Slurm says."""
        files = self._known(submission_id)
        if (found := _outcome(files)) is None:
            job = files.job_id.read_text().strip()
            found = _state_in_slurm(_asked_squeue(job) or _asked_sacct(job), files)
        if found in ENDED:
            files.token.unlink(missing_ok=True)
        return found

    def logs(self, submission_id: str) -> str:
        """Return all that the job printed so far."""
        try:
            return self._known(submission_id).log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def follow(self, submission_id: str) -> Iterator[str]:
        """Yield the lines of the job's log, without their ends, as they come, until the job has ended."""
        files = self._known(submission_id)
        position, looks = 0, 0
        while True:
            ended = files.exit_status.exists() or (
                looks % LOOKS_PER_QUESTION == 0 and self.state(submission_id) in ENDED
            )
            lines, position = _lines_from(files.log, position, whole=not ended)
            yield from lines
            if ended:
                return
            looks += 1
            time.sleep(SECONDS_BETWEEN_LINES)

    def stop(self, submission_id: str) -> None:
        """Take the job out of the queue; or, when it runs, interrupt its search, which exports the best model so far.

        The search has `grace_s` seconds; then the job is killed.
        """
        files = self._known(submission_id)
        if self.state(submission_id) in ENDED:
            return
        files.stopped.touch()
        job = files.job_id.read_text().strip()
        run_command(["scancel", "--state=PENDING", job])
        if self.state(submission_id) == RUNNING:
            run_command(["scancel", "--batch", "--signal=USR1", job])

    def check_ended(self, submission_id: str) -> None:
        files = SubmissionFolder(self.spec.storage_path, submission_id)
        if files.job_id.exists() and self.state(submission_id) not in ENDED:
            raise ClusterError(f"submission {submission_id} has not ended", "wait for it, or stop it")

    def forget(self, submission_id: str) -> None:
        """Remove the folder of a submission that has ended."""
        self.check_ended(submission_id)
        files = SubmissionFolder(self.spec.storage_path, submission_id)
        if files.job_id.exists():
            shutil.rmtree(files.folder)

    def _known(self, submission_id: str) -> SubmissionFolder:
        files = SubmissionFolder(self.spec.storage_path, submission_id)
        if not SUBMISSION_ID.fullmatch(submission_id) or not files.job_id.exists():
            raise ClusterError(f"no submission {submission_id!r} in {files.folder.parent}")
        return files

    def _write(self, files: SubmissionFolder, submission: Submission) -> None:
        shutil.copytree(submission.folder, files.work)
        read_token(make_token(files.token))
        _write_text(files.search_script, render_search_script(self.spec, submission))
        _write_text(files.script, render_script(self.spec, submission))


def running_jobs(spec: ClusterSpec) -> list[dict[str, str]]:
    """Return this user's jobs of a cluster: 'job', 'submission', 'state', 'nodes' and 'reason'."""
    keys = ("job", "submission", "state", "nodes", "reason")
    said = run_command(["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%j|%T|%N|%r"])
    jobs = [dict(zip(keys, line.strip().split("|"), strict=True)) for line in said.splitlines() if line.strip()]
    ours = job_name(spec, "")
    return [
        {**job, "submission": job["submission"].removeprefix(ours), "state": _unfinished(job["state"])}
        for job in jobs
        if job["submission"].startswith(ours)
    ]


def nodes_of(nodes: str) -> list[str]:
    """Return the names in a list of Slurm's such as 'n[1-3]'."""
    return run_command(["scontrol", "show", "hostnames", nodes]).split() if nodes else []


def _make_folder(files: SubmissionFolder) -> None:
    try:
        files.folder.parent.mkdir(parents=True, exist_ok=True)
        files.folder.mkdir(mode=0o700)
    except FileExistsError:
        raise ClusterError(f"submission {files.submission_id!r} was there before, in {files.folder}") from None
    except OSError as error:
        raise ClusterError(f"storage_path {files.storage_path} cannot be written: {error.strerror}") from None


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _lines_from(path: Path, position: int, *, whole: bool) -> tuple[list[str], int]:
    """Return the lines of a file from `position` on and where the next begin; a last one without end if not `whole`."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            found = file.read()
    except FileNotFoundError:
        return [], position
    if whole:
        found = found[: found.rfind(b"\n") + 1]
    return found.decode("utf-8", errors="replace").splitlines(), position + len(found)


def _outcome(files: SubmissionFolder) -> str | None:
    """Return how the job's script ended, None when it did not, or was killed."""
    try:
        status = int(files.exit_status.read_text())
    except FileNotFoundError:
        return None
    if status == 0:
        return SUCCEEDED
    return STOPPED if status in (INTERRUPTED, TERMINATED) or files.stopped.exists() else FAILED


def _state_in_slurm(word: str, files: SubmissionFolder) -> str:
    if word in WAITING or word in AT_WORK:
        return _unfinished(word)
    # What a node wrote last may take a while to be seen here.
    give_up = time.monotonic() + SECONDS_FOR_STORAGE
    while (found := _outcome(files)) is None:
        if word in CANCELLED or files.stopped.exists():
            return STOPPED
        if time.monotonic() > give_up:
            return FAILED
        time.sleep(SECONDS_BETWEEN_LINES)
    return found


def _unfinished(word: str) -> str:
    return QUEUED if word in WAITING else RUNNING


def _asked_squeue(job: str) -> str:
    """Return Slurm's word for a job, '' when it has forgotten it, as it does some minutes after the end."""
    try:
        return run_command(["squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T"]).strip()
    except ClusterError as error:
        if "Invalid job id" in str(error):
            return ""
        raise


def _asked_sacct(job: str) -> str:
    """Return the word for a job in Slurm's accounting; '' where there is none."""
    try:
        said = run_command(["sacct", "--allocations", "--noheader", "--parsable2", "--format=State", f"--jobs={job}"])
    except ClusterError:
        return ""
    # 'CANCELLED by 1000'
    return next(iter(said.split()), "")
