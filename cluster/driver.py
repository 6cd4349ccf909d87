"""A search on the cluster's side: `python -m cluster.driver` in the working folder of a submission.

Reads search.toml and submission.json, tells on standard output what happens (`cluster.events`), and leaves the result
folder in the cluster's storage under the submission's id. A search that is there already, because its process or its
head died, goes on.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.account import NodeWatch, make_account, write_account
from cluster.artifacts import SUMS
from cluster.checks import check_nodes
from cluster.events import CHECKS, DONE, PROBLEM, PROGRESS, STAGE, pack_progress, tell
from cluster.package import ORDER, SEARCH
from gru4rec.errors import ClusterError, GRU4RecError
from gru4rec.files import file_digest
from tuning.budget import INTERRUPTED
from tuning.checkpoints import PATIENCE_S
from tuning.fingerprint import FINGERPRINT, make_fingerprint, write_fingerprint
from tuning.journal import EPOCHS, PastTrial
from tuning.progress import Progress
from tuning.ray_runtime import Place, connect
from tuning.result import BEST, CHECKPOINTS, SearchResult, result_folder
from tuning.search import make_task, search_into, taken_up
from tuning.search_data import SearchData, read_data
from tuning.signals import Terminated
from tuning.spec import SearchSpec, read_spec
from tuning.storage import Storage

ACCOUNT = "account.json"
EXIT_INTERRUPTED = 130
SECONDS_BETWEEN_EVENTS = 1.0
SECONDS_BETWEEN_COPIES = 20.0


def main() -> None:
    """Run the search of the current folder; exits as `gru4rec tune run` does."""
    try:
        order = json.loads(Path(ORDER).read_text(encoding="utf-8"))
        result = run_search(read_spec(SEARCH), order)
    except GRU4RecError as error:
        tell(PROBLEM, str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        tell(PROBLEM, str(error))
        raise
    except Terminated:
        tell(PROBLEM, "terminated; gru4rec cluster submit --resume goes on")
        raise
    except KeyboardInterrupt:
        tell(PROBLEM, "interrupted before any epoch was trained")
        sys.exit(EXIT_INTERRUPTED)
    if result.ended == INTERRUPTED:
        sys.exit(EXIT_INTERRUPTED)


def run_search(spec: SearchSpec, order: dict[str, Any]) -> SearchResult:
    """Check the nodes, search, and store the result."""
    storage = Storage(order["storage_path"], PATIENCE_S)
    connect("auto")
    checks = check_nodes(order)
    tell(CHECKS, [check.as_row() for check in checks])
    if failed := [check for check in checks if not check.passed]:
        raise ClusterError(f"{failed[0].name}: {failed[0].detail}", failed[0].remedy)
    tell(STAGE, "reading logs")
    data = read_data(spec)
    task = make_task(spec, data)
    watch = NodeWatch(spec)
    watch.start()
    place = Place("auto", order["slots"], storage.join(order["id"], CHECKPOINTS))
    with stored_folder(storage, order["id"]) as path, begun_or_new(path, spec, data, order["changed"]) as past:
        result = search_into(
            path, spec, data, task, place, past, on_progress=Throttled(), on_stage=lambda text: tell(STAGE, text)
        )
        lines = (path / EPOCHS).read_text(encoding="utf-8").splitlines()
        account = make_account(watch.stop(), map(json.loads, lines), order["prices"], order["currency"])
        write_account(account, path / ACCOUNT)
        digest = file_digest(path / BEST / SUMS)
    tell(DONE, {"ended": result.ended, "best": digest})
    return result


class Throttled:
    """Tells the progress of a search, once a second at most, and when it is complete."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        complete = sum(progress.states.values()) == progress.trials and "running" not in progress.states
        if complete or now - self._last >= SECONDS_BETWEEN_EVENTS:
            self._last = now
            tell(PROGRESS, pack_progress(progress))


@contextmanager
def begun_or_new(path: Path, spec: SearchSpec, data: SearchData, changed: bool) -> Iterator[list[PastTrial]]:
    """Take up the search that is in the folder, or make the folder of a new one; yield what is known of its trials.

    One that has ended may have lost its process, or its head, before it could say so.
    """
    if (path / FINGERPRINT).exists():
        tell(STAGE, "going on with the search that is there")
        with taken_up(path, spec, data, changed, ended=True) as past:
            yield past
    else:
        with result_folder(path, spec):
            write_fingerprint(path, make_fingerprint(spec, data))
            yield []


@contextmanager
def stored_folder(storage: Storage, name: str) -> Iterator[Path]:
    """Yield the folder `name` of the storage, or one of this machine whose files are copied there again and again."""
    if storage.folder is not None:
        yield storage.folder / name
        return
    with tempfile.TemporaryDirectory(prefix="gru4rec-") as temporary:
        copies = Copies(Path(temporary) / name, storage, name)
        for file in storage.names(name):
            storage.download(f"{name}/{file}", copies.folder / file)
        thread = threading.Thread(target=copies.keep_up, daemon=True)
        thread.start()
        try:
            yield copies.folder
        finally:
            copies.ended.set()
            thread.join()
            copies.copy()


class Copies:
    """Copies what has changed in a folder to a storage."""

    def __init__(self, folder: Path, storage: Storage, name: str) -> None:
        self.folder = folder
        self.ended = threading.Event()
        self._storage = storage
        self._name = name
        self._copied: dict[Path, tuple[int, int]] = {}

    def keep_up(self) -> None:
        """Copy every now and then until `ended` is set; a storage that fails for a while is tried again."""
        while not self.ended.wait(SECONDS_BETWEEN_COPIES):
            try:
                self.copy()
            except GRU4RecError as error:
                tell(STAGE, f"{error}; trying again")

    def copy(self) -> None:
        """Copy what has changed since it was copied last."""
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file() or path.name.startswith("."):
                continue
            stat = path.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            if self._copied.get(path) != state:
                self._storage.upload(path, f"{self._name}/{path.relative_to(self.folder).as_posix()}")
                self._copied[path] = state


if __name__ == "__main__":
    main()
