"""A replica: what Ray Serve starts, watches and replaces. It has a model, and an HTTP server of its own.

The replicas of a machine listen on one port, and the kernel gives each new connection to one of them. Serve's own proxy
is left out: it is one more process on the way of every request, and was the bound on the throughput.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ray import serve

from gru4rec.errors import GRU4RecError, ModelFolderError
from serving.batcher import Batcher
from serving.http import Interface
from serving.listener import Listener
from serving.loopback import keep_serve_to_loopback
from serving.metrics import Metrics, render
from serving.recommender import Answer, Recommender, load_recommender
from serving.refusals import Refusal
from serving.requests import RecommendRequest
from serving.settings import Settings
from serving.target import Target, read_target, write_target

APPLICATION = DEPLOYMENT = "gru4rec"
SECONDS_TO_TELL = 5.0  # figures
SECONDS_TO_LOAD = 300.0  # a model


class Replica:
    """One process that answers.

    Parameters
    ----------
    settings : Settings
    """

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it, and __del__
        if settings.own_ray:
            keep_serve_to_loopback()
        torch.set_num_threads(settings.threads)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._loop = asyncio.get_running_loop()
        self._metrics = Metrics()  # changed in the loop alone
        self._prepared: Recommender | None = None
        self._swapping = asyncio.Lock()
        self._batcher = Batcher(self._answer, lambda request: len(request.sessions), settings.batch_sessions)
        self._current = await asyncio.to_thread(load_target, read_target())
        self._show_model(self._current, True)
        interface = Interface(self, settings.limits, settings.token_digest, self._metrics)
        self._listener = Listener(interface, settings)

    async def recommend(self, request: RecommendRequest) -> tuple[list[Answer], str]:
        """Return the answer to each session, and the digest of the model that gave them."""
        return await self._batcher.submit(request)

    def metadata(self) -> dict[str, Any]:
        """Return what is known of the model."""
        return self._current.metadata()

    async def metrics_text(self) -> str:
        """Return the figures of all replicas."""
        return render(dict(await self._all_replicas("tell_metrics", SECONDS_TO_TELL)))

    async def swap(self, path: str) -> dict[str, Any]:
        """Serve another model: all replicas load it and try it, then all take it; or none, and the reason is told.

        Raises
        ------
        Refusal
            409 while another swap runs, 422 where a replica cannot serve the model.
        """
        if self._swapping.locked():
            raise Refusal(409, "swap_running", "another swap is running; wait for it to end")
        async with self._swapping:
            began, before = time.perf_counter(), self._current.digest
            prepared = await self._all_replicas("prepare", SECONDS_TO_LOAD, path)
            problems = sorted({problem for _, problem in prepared if problem})
            digests = {digest for digest, _ in prepared if digest}
            if len(digests) > 1:
                problems.append(f"{path} is not the same on all machines")
            if problems:
                self._metrics.add("gru4rec_swaps_total", result="refused")
                await self._all_replicas("forget", SECONDS_TO_LOAD)
                raise Refusal(422, "model_refused", problems[0])
            (digest,) = digests
            await asyncio.to_thread(write_target, Target(path, digest))
            await self._all_replicas("follow", SECONDS_TO_LOAD)
            self._metrics.add("gru4rec_swaps_total", result="done")
        seconds = round(time.perf_counter() - began, 3)
        return {"model": path, "digest": digest, "before": before, "replicas": len(prepared), "seconds": seconds}

    async def tell_metrics(self) -> tuple[str, Metrics]:
        """Return the name and the figures of this replica."""
        return self._name, self._metrics

    async def prepare(self, path: str) -> tuple[str, str]:
        """Load a model beside the one that is served; return its digest, or else what is wrong with it."""
        try:
            self._prepared = await asyncio.to_thread(load_recommender, Path(path))
        except (GRU4RecError, OSError) as error:
            return "", str(error)
        return self._prepared.digest, ""

    async def forget(self) -> None:
        """Drop what was prepared."""
        self._prepared = None

    async def follow(self) -> None:
        """Take the model that is to be served: the one that was prepared, where it is that."""
        target = await asyncio.to_thread(read_target)
        if target.digest != self._current.digest:
            new = self._prepared
            if new is None or new.digest != target.digest:
                new = await asyncio.to_thread(load_target, target)
            self._show_model(self._current, False)
            self._show_model(new, True)
            self._current, self._prepared = new, None

    async def check_health(self) -> None:
        """Called by Serve now and then: follows a swap that was missed, as a replica does that started meanwhile."""
        self._listener.check()
        await self.follow()

    async def __del__(self) -> None:
        await self._listener.stop()

    def _answer(self, requests: Sequence[RecommendRequest]) -> list[tuple[list[Answer], str]]:
        current = self._current  # of the whole batch
        answers = current.answer(requests)
        self._loop.call_soon_threadsafe(self._count, [answer for group in answers for answer in group])
        return [(group, current.digest) for group in answers]

    def _count(self, batch: Sequence[Answer]) -> None:
        self._metrics.observe("gru4rec_batch_sessions", len(batch))
        for answer in batch:
            self._metrics.add("gru4rec_sessions_total", source=answer.source)
            self._metrics.add("gru4rec_unknown_items_total", answer.unknown)

    def _show_model(self, model: Recommender, is_served: bool) -> None:
        labels = (("digest", model.digest), ("folder", model.path.name))
        self._metrics.numbers["gru4rec_model_info", labels] = int(is_served)

    async def _all_replicas(self, method: str, seconds: float, *arguments: Any) -> list[Any]:
        handle = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
        results: list[Any] = await handle.broadcast(method, *arguments).results_async(timeout_s=seconds)
        return results


def load_target(target: Target) -> Recommender:
    """Read the model that is to be served.

    Raises
    ------
    ModelFolderError
        When it cannot be read, or its folder holds another model by now.
    """
    recommender = load_recommender(Path(target.path))
    if recommender.digest != target.digest:
        raise ModelFolderError(f"{target.path} is not the model that was to be served any more", "swap to it")
    return recommender


def make_application(settings: Settings) -> serve.Application:
    """Return what Ray Serve runs."""
    deployment = serve.deployment(
        Replica,
        name=DEPLOYMENT,
        num_replicas=settings.replicas,
        ray_actor_options={"num_cpus": settings.threads},
        graceful_shutdown_timeout_s=settings.drain_s + 5,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=5,
    )
    return deployment.bind(settings)
