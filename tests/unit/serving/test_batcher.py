"""What waits together is computed together, in order and within bounds."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.batcher import Batcher


def run_all(jobs, max_size, run=None):
    """Submit all jobs while the first is being computed; return their results and the batches that were made."""
    batches, gate = [], threading.Event()

    def double(batch):
        batches.append(list(batch))
        gate.wait(10)
        return [job * 2 for job in batch]

    async def submit():
        batcher = Batcher(run or double, lambda job: job, max_size)
        tasks = [asyncio.create_task(batcher.submit(job)) for job in jobs[:1]]
        while not batches and run is None:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(batcher.submit(job)) for job in jobs[1:]]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(submit()), batches


def test_jobs_that_come_meanwhile_are_one_batch():
    assert run_all([1, 2, 3, 1], max_size=10) == ([2, 4, 6, 2], [[1], [2, 3, 1]])


def test_a_batch_is_full_at_its_size_and_a_larger_job_is_alone():
    results, batches = run_all([1, 2, 2, 9, 1], max_size=4)
    assert results == [2, 4, 4, 18, 2]
    assert batches == [[1], [2, 2], [9], [1]]


def test_an_error_is_told_to_all_of_its_batch_and_the_next_goes_on():
    def fail_on_two(batch):
        if 2 in batch:
            raise ValueError("two")
        return batch

    async def submit():
        batcher = Batcher(fail_on_two, lambda job: 1, 1)
        return await asyncio.gather(*(batcher.submit(job) for job in (1, 2, 3)), return_exceptions=True)

    first, second, third = asyncio.run(submit())
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)


def test_a_job_that_nobody_waits_for_is_not_computed():
    batches, gate = [], threading.Event()

    def run(batch):
        batches.append(list(batch))
        gate.wait(10)
        return batch

    async def submit():
        batcher = Batcher(run, lambda job: 1, 10)
        first = asyncio.create_task(batcher.submit("first"))
        while not batches:
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await batcher.submit("given up")
        last = asyncio.create_task(batcher.submit("last"))
        await asyncio.sleep(0)
        gate.set()
        return await first, await last

    assert asyncio.run(submit()) == ("first", "last")
    assert batches == [["first"], ["last"]]
