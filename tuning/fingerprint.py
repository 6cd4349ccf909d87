"""What a search's numbers depend on, in short: a search that goes on must find all of it as it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING

import gru4rec
from gru4rec.data.training_log import digest_sessions
from gru4rec.errors import SearchError
from gru4rec.files import atomic_file, read_text, shorten, unreadable_as
from tuning.spec import SearchSpec, to_dict

if TYPE_CHECKING:
    from tuning.search_data import SearchData

FINGERPRINT = "fingerprint.json"
PACKAGES = ("numpy", "optuna", "ray", "torch")
MAY_CHANGE = (
    "trials", "time_budget_s", "epoch_budget", "until", "confirm", "refit", "max_concurrent_trials",
    "checkpoint_every", "max_failures",
)  # fmt: skip


def make_fingerprint(spec: SearchSpec, data: SearchData) -> dict[str, str]:
    """Return what a search's numbers depend on: versions, our code, the search's settings, and its logs."""
    content = to_dict(spec)
    for name in ("data", "logging"):
        content.pop(name, None)
    settings = {name: value for name, value in content.pop("search").items() if name not in MAY_CHANGE}
    digests = {name: digest_sessions(log) for name, log in vars(data).items() if log is not None}
    return {
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "code": _digest_code(),
        "settings": _digest(json.dumps([settings, content], sort_keys=True, default=str).encode()),
        **digests,
    }


def write_fingerprint(folder: Path, fingerprint: dict[str, str]) -> None:
    """Write it into a result folder."""
    with atomic_file(folder / FINGERPRINT) as temporary:
        temporary.write_text(json.dumps(fingerprint, indent=2) + "\n", encoding="utf-8")


def compare_fingerprint(folder: Path, fingerprint: dict[str, str]) -> None:
    """Compare it with that of a result folder.

    Raises
    ------
    SearchError
        When they differ, or that one is damaged.
    """
    if not (folder / FINGERPRINT).exists():
        raise SearchError(f"{folder} has no {FINGERPRINT}: its search had not begun", "remove it and start anew")
    with unreadable_as(SearchError, folder / FINGERPRINT, "--changed goes on without it"):
        before = json.loads(read_text(folder / FINGERPRINT))
        if not isinstance(before, dict):
            raise ValueError(f"expected an object, got {shorten(repr(before))}")
    changed = [
        f"{name} was {shorten(str(before.get(name, 'none')))}, is {fingerprint.get(name, 'none')}"
        for name in sorted({*before, *fingerprint})
        if before.get(name) != fingerprint.get(name)
    ]
    if changed:
        raise SearchError(
            f"{folder} is of a search whose numbers could not go on as they were: {'; '.join(changed)}",
            "--changed goes on all the same",
        )


def _digest_code() -> str:
    """Return the digest of the source that trials and sampler are made of."""
    root = Path(gru4rec.__file__).parents[1]
    files = sorted(path for package in ("gru4rec", "tuning") for path in (root / package).rglob("*.py"))
    return _digest(*(path.read_bytes() for path in files))


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
