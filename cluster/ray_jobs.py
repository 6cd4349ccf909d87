"""Submissions through Ray's job API: over HTTP to the dashboard of the head, with the cluster's token."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import ray
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.jobs import ENDED, FAILED, QUEUED, RUNNING, STOPPED, SUCCEEDED, Submission
from gru4rec.errors import ClusterError

STATES = {
    JobStatus.PENDING: QUEUED,
    JobStatus.RUNNING: RUNNING,
    JobStatus.SUCCEEDED: SUCCEEDED,
    JobStatus.FAILED: FAILED,
    JobStatus.STOPPED: STOPPED,
}
SECONDS_TO_ANSWER = 20.0
SECONDS_TO_EXPORT = 600  # that a stopped search has for its best model
SECONDS_BETWEEN_TRIES = 2.0
TRIES = 30  # of a lost connection, while the submission goes on there
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
OVERRIDING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # they would send us to another cluster


class RayJobs:
    """The job API of a cluster.

    Parameters
    ----------
    url : str
        Of the dashboard, such as http://127.0.0.1:8265.
    token : str, optional
        None for a cluster without authentication.

    Raises
    ------
    ClusterError
        When nothing answers there, or the token is refused.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._get("/api/version")
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._told(), _without(OVERRIDING):
            self._client = JobSubmissionClient(self._url, headers=dict(self._headers))

    @property
    def ray_version(self) -> str:
        """The version of Ray that runs there."""
        return str(self._get("/api/version").json()["ray_version"])

    @property
    def authenticated(self) -> bool:
        """Whether a request without a token is refused there."""
        return requests.get(f"{self._url}/api/jobs/", timeout=SECONDS_TO_ANSWER).status_code in (401, 403)

    def nodes(self) -> list[dict[str, Any]]:
        """Return a row per node that is or was there."""
        answer = self._get("/api/v0/nodes?detail=1&limit=10000").json()
        found = answer["data"]["result"]["result"]
        return [
            {
                "node": node["node_name"],
                "address": node["node_ip"],
                "group": (node.get("labels") or {}).get("ray.io/node-group", "-"),
                "state": str(node["state"]).lower(),
                "cpus": (node.get("resources_total") or {}).get("CPU", 0.0),
                "gpus": (node.get("resources_total") or {}).get("GPU", 0.0),
                "id": node["node_id"],
            }
            for node in sorted(found, key=lambda node: (not node["is_head_node"], node["node_name"]))
        ]

    def submit(self, submission: Submission) -> None:
        environment: dict[str, Any] = {
            "working_dir": str(submission.folder),
            "env_vars": {
                **submission.variables,
                "RAY_JOB_STOP_SIGNAL": "SIGINT",  # as Ctrl-C: the best model so far is exported
                "RAY_JOB_STOP_WAIT_TIME_S": str(SECONDS_TO_EXPORT),
            },
        }
        if submission.packages:
            environment["pip"] = {"packages": list(submission.packages)}
        with self._told():
            self._client.submit_job(
                entrypoint=shlex.join(["python", *submission.command]),
                submission_id=submission.id,
                runtime_env=environment,
            )

    def state(self, submission_id: str) -> str:
        with self._told(submission_id):
            return STATES[self._client.get_job_status(submission_id)]

    def logs(self, submission_id: str) -> str:
        with self._told(submission_id):
            return str(self._client.get_job_logs(submission_id))

    def follow(self, submission_id: str) -> Iterator[str]:
        seen = failures = 0
        while True:
            try:
                for line in self._lines(submission_id, seen):
                    seen, failures = seen + 1, 0
                    yield line
                if self.state(submission_id) in ENDED:
                    yield from self.logs(submission_id).splitlines()[seen:]
                    return
            except (RuntimeError, aiohttp.ClientError, OSError, ClusterError) as error:
                failures += 1
                if failures > TRIES:
                    raise ClusterError(f"the connection to {self._url} is lost: {error}") from None
            time.sleep(SECONDS_BETWEEN_TRIES)

    def check_ended(self, submission_id: str) -> None:
        if self._is_known(submission_id) and self.state(submission_id) not in ENDED:
            raise ClusterError(f"submission {submission_id} has not ended", "wait for it, or stop it")

    def forget(self, submission_id: str) -> None:
        self.check_ended(submission_id)
        if self._is_known(submission_id):
            with self._told(submission_id):
                self._client.delete_job(submission_id)

    def stop(self, submission_id: str) -> None:
        with self._told(submission_id):
            self._client.stop_job(submission_id)

    def _is_known(self, submission_id: str) -> bool:
        with self._told(submission_id):
            return any(job.submission_id == submission_id for job in self._client.list_jobs())

    def _lines(self, submission_id: str, skip: int) -> Iterator[str]:
        """Yield lines from the cluster's log stream, which always begins with the first."""
        rest, number = "", 0
        for chunk in _iterate(self._client.tail_job_logs(submission_id)):
            *lines, rest = (rest + chunk).split("\n")
            for line in lines:
                number += 1
                if number > skip:
                    yield line
        if rest and number >= skip:
            yield rest

    def _get(self, path: str) -> requests.Response:
        try:
            answer = requests.get(self._url + path, headers=self._headers, timeout=SECONDS_TO_ANSWER)
        except requests.RequestException as error:
            raise ClusterError(
                f"no Ray cluster answers at {self._url}: {_reason(error)}", "is it up? see: gru4rec cluster status"
            ) from None
        if answer.status_code in (401, 403):
            what = "needs a token" if not self._headers else "refuses the token"
            raise ClusterError(
                f"the cluster at {self._url} {what} (HTTP {answer.status_code})",
                "name its file with address.token_path or set RAY_AUTH_TOKEN",
            )
        if not answer.ok:
            raise ClusterError(f"{self._url}{path} answered HTTP {answer.status_code}: {answer.text[:200]}")
        return answer

    @contextmanager
    def _told(self, submission_id: str = "") -> Iterator[None]:
        """Turn what Ray's client raises into our errors."""
        try:
            yield
        except requests.RequestException as error:
            raise ClusterError(f"no Ray cluster answers at {self._url}: {_reason(error)}") from None
        except (RuntimeError, ConnectionError, ValueError, ray.exceptions.RayError) as error:
            text = str(error).strip()
            if submission_id and "does not exist" in text:
                raise ClusterError(f"the cluster at {self._url} knows no submission {submission_id!r}") from None
            raise ClusterError(
                f"the cluster at {self._url} refused: {text.splitlines()[-1] if text else error!r}"
            ) from None


def _iterate(stream: AsyncIterator[str]) -> Iterator[str]:
    """Yield from an asynchronous iterator."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(stream))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _reason(error: Exception) -> str:
    return str(getattr(error.args[0], "reason", error) if error.args else error).rsplit(">: ")[-1]
