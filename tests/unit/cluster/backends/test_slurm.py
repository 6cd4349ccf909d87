"""The Slurm backend against golden files, bash, shellcheck, and commands that stand in for Slurm's.

A real Slurm is in tests/multi_node/test_slurm.py.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.backends import make_backend, slurm_jobs
from cluster.backends.slurm import SlurmBackend, seconds
from cluster.backends.slurm_jobs import SlurmJobs
from cluster.backends.slurm_script import SubmissionFolder
from cluster.jobs import FAILED, QUEUED, RUNNING, STOPPED, SUCCEEDED, Submission
from cluster.spec import ClusterSpec, parse_cluster, read_cluster
from gru4rec.errors import ClusterError, SpecificationError

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden" / "slurm"
SHELLCHECK = Path(sys.prefix) / "bin" / "shellcheck"
# A file that is sourced is not here; functions are called by traps; one text is for another shell to expand.
EXCLUDED = "SC1091,SC2329,SC2016"
SMALL = """
name = "hpc"
backend = "slurm"
storage_path = "STORAGE"
"""
# Says what it was asked, then the answer that a test has laid down for it.
FAKE = """\
#!/bin/bash
echo "$(basename "$0") $*" >>"$ASKED"
answer=$ASKED-$(basename "$0")
[[ ! -e $answer ]] || cat "$answer"
[[ ! -e $answer-error ]] || { cat "$answer-error" >&2; exit 1; }
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[[str], ClusterSpec]:
    """Return a cluster that stores in a folder of the test."""

    def read(text: str = "") -> ClusterSpec:
        content = tomllib.loads(SMALL.replace("STORAGE", str(tmp_path / "shared")) + text)
        return parse_cluster(content, "cluster.toml", Path("/home/me/project"))

    return read


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Put commands on PATH that answer as told; return a function that tells them, and says what they were asked."""
    (commands := tmp_path / "bin").mkdir()
    asked = tmp_path / "asked"
    asked.touch()
    for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol"):
        (commands / name).write_text(FAKE)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setenv("ASKED", str(asked))
    monkeypatch.setattr(slurm_jobs, "SECONDS_FOR_STORAGE", 0.0)
    monkeypatch.setattr(slurm_jobs, "SECONDS_BETWEEN_LINES", 0.01)

    def tell(**answers: str) -> str:
        for name, answer in answers.items():
            (tmp_path / f"asked-{name.replace('_', '-')}").write_text(answer)
        return asked.read_text()

    tell(sbatch="4711;main\n", squeue="RUNNING\n")
    return tell


@pytest.fixture
def submitted(cluster, slurm, tmp_path: Path) -> tuple[SlurmJobs, SubmissionFolder]:
    (work := tmp_path / "work").mkdir()
    (work / "search.toml").write_text("seed = 1\n")
    spec = cluster()
    jobs = SlurmJobs(spec)
    jobs.submit(Submission("s1", work, ("-m", "cluster.driver"), {"SHOP": "it's $HOME"}))
    return jobs, SubmissionFolder(spec.storage_path, "s1")


def golden_files() -> list[Path]:
    return sorted(GOLDEN.rglob("*.sh"))


def test_what_is_rendered_is_as_recorded():
    """Recorded by `python tests/golden/render.py`."""
    rendered = make_backend(read_cluster(ROOT / "examples" / "cluster-slurm.toml")).render()
    folder = str(ROOT / "examples")
    assert {name: text.replace(folder, "/home/me/project") for name, text in rendered.items()} == {
        path.name: path.read_text() for path in golden_files()
    }


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.name)
def test_scripts_are_right_for_bash_and_shellcheck(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    subprocess.run([str(SHELLCHECK), "--exclude", EXCLUDED, str(path)], check=True)


def test_one_node_waits_for_no_others(cluster):
    script = make_backend(cluster()).render()["job.sh"]
    assert "#SBATCH --nodes=1\n" in script
    assert "--relative=1" not in script


def test_variables_and_commands_are_quoted(submitted):
    _, files = submitted
    script = files.script.read_text()
    line = next(line for line in script.splitlines() if line.startswith("export SHOP="))
    said = subprocess.run(["bash", "-c", f'{line}\necho "$SHOP"'], capture_output=True, text=True, check=True)
    assert said.stdout == "it's $HOME\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time_limit = '90'", "slurm.time_limit must be hours:minutes:seconds or days-hours:minutes:seconds, got '90'"),
        ("time_limit = '00:02:00'", r"slurm.time_limit must be longer than slurm.grace_s \(120 s\), got 00:02:00"),
        ("partition = 'a b'", "slurm.partition must be one word without quotes, got 'a b'"),
        (
            "sbatch = ['reservation=x']",
            "slurm.sbatch must be options such as '--reservation=NAME', got 'reservation=x'",
        ),
        ("sbatch = ['--output=x']", "slurm.sbatch: '--output=x' is set from other keys of cluster.toml"),
        ("sbatch = ['-N4']", "slurm.sbatch: '-N4' is set from other keys"),
        ("sbatch = ['''--licenses=x\n#SBATCH --wrap=y''']", "slurm.sbatch must be options"),
        ("setup = ['''a\nb''']", "slurm.setup must be single lines"),
        ("port = 70000", "slurm.port must be <= 65535, got 70000"),
        ("grace = 3", "unknown key 'grace'; did you mean 'grace_s'"),
    ],
)
def test_settings_that_cannot_be(cluster, text, said):
    with pytest.raises(SpecificationError, match=said):
        cluster(f"[slurm]\n{text}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[workers.w]\nmin = 1\nmax = 4\n", r"workers.w.max must be min \(1\), got 4: Slurm gives a job all"),
        ("[workers.w]\nmin = 1\ncpus = 8\n", r"workers.w.cpus must be head.cpus \(1\), got 8: nodes of one job"),
        ("[head]\ncpus = 0\n", "head.cpus must be >= 1"),
        ("[head]\nmachine = 'm5'\n", "head.machine has no meaning on Slurm"),
        ("[workers.w]\nmin = 1\nspot = true\n", "workers.w.spot has no meaning on Slurm"),
        ("[environment]\ninstall = true\n", "environment.install must be false"),
        ("[slurm]\ngpu_type = 'a100'\n", "slurm.gpu_type is 'a100', but head.gpus is 0"),
    ],
)
def test_clusters_that_no_job_can_be(cluster, text, said):
    with pytest.raises(SpecificationError, match=said):
        make_backend(cluster(text))


def test_storage_must_be_a_shared_folder(cluster, tmp_path):
    content = tomllib.loads(SMALL.replace("STORAGE", "s3://bucket/runs"))
    with pytest.raises(SpecificationError, match="storage_path must be a folder that login and compute nodes share"):
        make_backend(parse_cluster(content, "cluster.toml", tmp_path))


def test_time_limits_in_seconds():
    assert [seconds(limit) for limit in ("00:00:59", "2-03:04:05", "120:00:00", "1:60:00")] == [
        59,
        2 * 86400 + 3 * 3600 + 4 * 60 + 5,
        432000,
        None,
    ]


def test_a_submission_is_for_its_owner_only_and_its_token_nowhere_else(submitted, slurm):
    _, files = submitted
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(files.token.stat().st_mode) == 0o600
    token = files.token.read_text()
    assert token not in files.script.read_text() + files.search_script.read_text() + slurm()
    assert (files.work / "search.toml").read_text() == "seed = 1\n"
    assert files.job_id.read_text() == "4711"
    assert f"sbatch --parsable --chdir={files.folder} {files.script}" in slurm()


def test_an_id_is_used_once(submitted, tmp_path):
    jobs, files = submitted
    with pytest.raises(ClusterError, match="submission 's1' was there before"):
        jobs.submit(Submission("s1", tmp_path / "work", ()))
    assert files.job_id.exists()


def test_a_refused_submission_leaves_nothing(cluster, slurm, tmp_path):
    (tmp_path / "work").mkdir()
    slurm(sbatch_error="invalid partition specified: x\n")
    jobs = SlurmJobs(cluster())
    with pytest.raises(ClusterError, match="invalid partition specified: x"):
        jobs.submit(Submission("s2", tmp_path / "work", ()))
    assert list((tmp_path / "shared" / "submissions").iterdir()) == []
    with pytest.raises(ClusterError, match="no submission 's2' in"):
        jobs.state("s2")


@pytest.mark.parametrize("name", ["../x", "a b", ""])
def test_ids_that_are_no_folder_names(submitted, tmp_path, name):
    jobs, _ = submitted
    with pytest.raises(ClusterError, match="a submission's id must be"):
        jobs.submit(Submission(name, tmp_path / "work", ()))
    with pytest.raises(ClusterError, match="no submission"):
        jobs.state(name)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PENDING", QUEUED),
        ("CONFIGURING", QUEUED),
        ("RUNNING", RUNNING),
        ("COMPLETING", RUNNING),
        ("COMPLETED", FAILED),  # without an exit status of its own, it was not the search that ended well
        ("TIMEOUT", FAILED),
        ("NODE_FAIL", FAILED),
        ("OUT_OF_MEMORY", FAILED),
        ("CANCELLED", STOPPED),
    ],
)
def test_states_as_slurm_says_them(submitted, slurm, word, state):
    jobs, files = submitted
    slurm(squeue=f"{word}\n")
    assert jobs.state("s1") == state
    assert files.token.exists() == (state in (QUEUED, RUNNING))


@pytest.mark.parametrize(
    ("status", "asked_to_end", "state"),
    [(0, False, SUCCEEDED), (0, True, SUCCEEDED), (3, False, FAILED), (3, True, STOPPED), (130, False, STOPPED)],
)
def test_the_exit_status_of_a_job_goes_before_what_slurm_says(submitted, slurm, status, asked_to_end, state):
    jobs, files = submitted
    slurm(squeue="RUNNING\n")
    files.exit_status.write_text(f"{status}\n")
    if asked_to_end:
        files.stopped.touch()
    assert jobs.state("s1") == state


@pytest.mark.parametrize(
    ("accounting", "state"), [("TIMEOUT\n", FAILED), ("CANCELLED by 1000\n", STOPPED), ("", FAILED)]
)
def test_jobs_that_squeue_has_forgotten(submitted, slurm, accounting, state):
    jobs, _ = submitted
    slurm(squeue="", squeue_error="slurm_load_jobs error: Invalid job id specified\n", sacct=accounting)
    assert jobs.state("s1") == state


def test_no_accounting_is_no_fault(submitted, slurm):
    jobs, _ = submitted
    slurm(squeue="", sacct_error="Slurm accounting storage is disabled\n")
    assert jobs.state("s1") == FAILED


def test_a_controller_that_does_not_answer_is_told(submitted, slurm):
    jobs, _ = submitted
    slurm(squeue="", squeue_error="Unable to contact slurm controller\n")
    with pytest.raises(ClusterError, match="Unable to contact slurm controller"):
        jobs.state("s1")


def test_the_log_is_followed_to_the_end(submitted, slurm):
    jobs, files = submitted
    assert jobs.logs("s1") == ""
    files.log.write_text("one\ntwo")
    following = jobs.follow("s1")
    assert next(following) == "one"
    with files.log.open("a") as log:
        log.write(" and\nthree")
    files.exit_status.write_text("0\n")
    assert list(following) == ["two and", "three"]
    assert jobs.logs("s1") == "one\ntwo and\nthree"


def test_a_stop_interrupts_a_job_that_runs(submitted, slurm):
    jobs, files = submitted
    jobs.stop("s1")
    assert "scancel --state=PENDING 4711\n" in slurm()
    assert "scancel --batch --signal=USR1 4711\n" in slurm()
    assert files.stopped.exists()


def test_a_stop_takes_a_job_out_of_the_queue(submitted, slurm):
    jobs, _ = submitted
    slurm(squeue="PENDING\n")
    jobs.stop("s1")
    assert "scancel --state=PENDING 4711\n" in slurm()
    assert "USR1" not in slurm()


def test_a_stop_of_one_that_ended_does_nothing(submitted, slurm):
    jobs, files = submitted
    files.exit_status.write_text("0\n")
    jobs.stop("s1")
    assert "scancel" not in slurm()
    assert jobs.state("s1") == SUCCEEDED


def test_up_asks_slurm_and_starts_nothing(cluster, slurm):
    said: list[str] = []
    backend: SlurmBackend = make_backend(cluster())  # type: ignore[assignment]
    backend.up(said.append)
    backend.down(said.append)
    assert "sbatch --test-only" in slurm()
    assert "nothing stays up" in said[1]
    slurm(sbatch_error="Invalid account\n")
    with pytest.raises(ClusterError, match="Invalid account; hint: see `sinfo`"):
        backend.up(said.append)


def test_status_has_a_row_per_node_of_this_clusters_jobs(cluster, slurm):
    slurm(
        squeue="5|gru4rec-hpc:s1|RUNNING|n[1-2]|None\n6|gru4rec-hpc:s2|PENDING||Priority\n7|other|RUNNING|n3|None\n",
        scontrol="n1\nn2\n",
    )
    rows = make_backend(cluster()).status()
    assert [(row["node"], row["group"], row["state"], row["submission"]) for row in rows] == [
        ("n1", "head", RUNNING, "s1"),
        ("n2", "workers", RUNNING, "s1"),
        ("none yet (Priority)", "head", QUEUED, "s2"),
    ]
    slurm(squeue="")
    with pytest.raises(ClusterError, match="cluster hpc has no job in Slurm"):
        make_backend(cluster()).status()
