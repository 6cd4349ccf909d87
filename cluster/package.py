"""The working folder of a submission: our code as it is here, the search, and the logs unless they are large."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
from packaging.requirements import Requirement

from cluster.jobs import Submission
from cluster.spec import ClusterSpec
from gru4rec.errors import DataError
from gru4rec.files import file_digest
from tuning.spec import SearchSpec, to_dict
from tuning.storage import Storage, is_uri

DISTRIBUTION = "gru4rec-tune"
PACKAGES = ("gru4rec", "tuning", "cluster")
SMALL_BYTES = 20_000_000  # logs up to this size together travel with the code; Ray's job API takes 100 MiB and more
SEARCH, ORDER = "search.toml", "submission.json"
DRIVER = ("-m", "cluster.driver")
PROBE = ("-m", "cluster.probe")


def make_folder(folder: Path) -> None:
    """Put our packages into `folder`, with the metadata that tells their version."""
    root = Path(__file__).parents[1]
    for package in PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    version = importlib.metadata.version(DISTRIBUTION)
    metadata = folder / f"{DISTRIBUTION.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n", encoding="utf-8")


def pack_search(
    folder: Path,
    cluster: ClusterSpec,
    search: SearchSpec,
    submission_id: str,
    say: Callable[[str], None] | None,
    changed: bool = False,
) -> Submission:
    """Write a search into the working folder `folder`; large logs go to the cluster's storage, once.

    `say` is told of uploads; with None there are none, to see what would be submitted. With `changed` one that is there
    goes on although code, data or settings have changed.

    Raises
    ------
    DataError, SearchError
        When a log cannot be read, or the storage cannot be written.
    """
    content = to_dict(search)
    content["data"] |= _place_logs(folder, search, Storage(cluster.storage_path), say)
    (folder / SEARCH).write_text(tomli_w.dumps(content), encoding="utf-8")
    write_order(folder, cluster, search, submission_id, changed)
    return make_submission(folder, cluster, submission_id, DRIVER)


def write_order(
    folder: Path, cluster: ClusterSpec, search: SearchSpec, submission_id: str, changed: bool = False
) -> None:
    """Write what the cluster's side needs to know besides the search."""
    order: dict[str, Any] = {
        "id": submission_id,
        "storage_path": cluster.storage_path,
        "slots": cluster.slots(search.cpus_per_trial, search.gpus_per_trial) if cluster.elastic else None,
        "cpus_per_trial": search.cpus_per_trial,
        "gpus_per_trial": search.gpus_per_trial,
        "log_bytes": log_bytes(search),
        "prices": {group.name: group.price_per_hour for group in cluster.groups},
        "currency": cluster.currency,
        "elastic": cluster.elastic,
        "changed": changed,
    }
    (folder / ORDER).write_text(json.dumps(order, indent=2) + "\n", encoding="utf-8")


def make_submission(folder: Path, cluster: ClusterSpec, submission_id: str, command: tuple[str, ...]) -> Submission:
    """Return the submission of a working folder."""
    packages = installed_requirements() if cluster.install else ()
    return Submission(submission_id, folder, command, dict(cluster.variables), packages)


def installed_requirements() -> tuple[str, ...]:
    """Return the packages that a search needs besides Ray, in the versions of this machine."""
    names = [
        requirement.name
        for requirement in map(Requirement, importlib.metadata.requires(DISTRIBUTION) or [])
        if requirement.marker is None or requirement.marker.evaluate({"extra": "tune"})
    ]
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in names if name != "ray"}
    return tuple(f"{name}=={version}" for name, version in sorted(versions.items()))


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def log_bytes(search: SearchSpec) -> int:
    """Return the size of a search's logs, as far as they are files of this machine.

    Raises
    ------
    DataError
        When one of them does not exist.
    """
    logs = [Path(path) for path in search.data.logs().values() if not is_uri(path)] if search.data else []
    for path in logs:
        if not path.is_file():
            raise DataError(f"{path} does not exist or is not a file")
    return sum(path.stat().st_size for path in logs)


def _place_logs(
    folder: Path, search: SearchSpec, storage: Storage, say: Callable[[str], None] | None
) -> dict[str, str]:
    """Return where the cluster's side finds each log."""
    places = {}
    small = log_bytes(search) <= SMALL_BYTES
    for name, path in search.data.logs().items() if search.data else ():
        if is_uri(path):
            places[name] = str(path)
        elif small:
            places[name] = f"data/{name}{Path(path).suffix}"
            (folder / "data").mkdir(exist_ok=True)
            shutil.copyfile(path, folder / places[name])
        else:
            stored = f"logs/{file_digest(Path(path))}{Path(path).suffix}"
            if say is not None and not storage.exists(stored):
                say(f"uploading {path} ({Path(path).stat().st_size / 1e6:.1f} MB) to {storage.location}")
                storage.upload(Path(path), stored)
            places[name] = storage.join(stored)
    return places
