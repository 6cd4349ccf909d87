"""Requests that wait at the same time share one matrix product: while one batch is computed, the next one gathers.

Nothing waits for a batch to fill: a request that comes alone is computed at once, and batches grow with the load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Batcher(Generic[Job, Result]):
    """Runs jobs in batches, one batch at a time, on a thread of its own.

    Parameters
    ----------
    run : callable
        Jobs to their results, in their order.
    size_of : callable
        The size of a job.
    max_size : int
        Of a batch; a job that is larger is a batch of its own.
    """

    def __init__(
        self, run: Callable[[Sequence[Job]], Sequence[Result]], size_of: Callable[[Job], int], max_size: int
    ) -> None:
        self._run, self._size_of, self._max_size = run, size_of, max_size
        self._waiting: list[tuple[Job, asyncio.Future[Result]]] = []
        self._thread = ThreadPoolExecutor(1, "batches")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, job: Job) -> Result:
        """Return the result of a job; what `run` raises is raised to all jobs of its batch."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while batch := self._next_batch():
            jobs = [job for job, _ in batch]
            try:
                results = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, jobs)
            except Exception as error:
                for _, future in batch:
                    with suppress(asyncio.InvalidStateError):  # given up on the way
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    with suppress(asyncio.InvalidStateError):
                        future.set_result(result)
        self._worker = None

    def _next_batch(self) -> list[tuple[Job, asyncio.Future[Result]]]:
        """Take the jobs that wait longest, without those that nobody waits for any more."""
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]
        sizes = accumulate(self._size_of(job) for job, _ in self._waiting)
        taken = max(1, sum(size <= self._max_size for size in sizes))
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch
