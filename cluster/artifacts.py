"""Models brought home from a cluster's storage: all of it, as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

from gru4rec.errors import ClusterError
from gru4rec.files import atomic_folder, file_digest
from tuning.storage import Storage

SUMS = "SHA256SUMS"


def fetch_folder(storage: Storage, name: str, out: Path, sums_digest: str) -> Path:
    """Copy the folder `name` of a storage to `out`, and verify each file.

    Parameters
    ----------
    storage : Storage
    name : str
    out : Path
        Must not exist.
    sums_digest : str
        SHA-256 of its SHA256SUMS, which came another way.

    Raises
    ------
    ClusterError
        When `out` exists, a file is missing, or a checksum differs.
    """
    if out.exists():
        raise ClusterError(f"{out} exists already", "choose another folder")
    with atomic_folder(out) as folder:
        storage.download(f"{name}/{SUMS}", folder / SUMS)
        if file_digest(folder / SUMS) != sums_digest:
            raise ClusterError(f"{storage.join(name, SUMS)} is not what the search wrote")
        for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
            digest, _, file = line.partition("  ")
            if Path(file).is_absolute() or ".." in Path(file).parts:
                raise ClusterError(f"{storage.join(name, SUMS)} names {file!r}, outside its folder")
            storage.download(f"{name}/{file}", folder / file)
            if file_digest(folder / file) != digest:
                raise ClusterError(f"{storage.join(name, file)} arrived damaged", "fetch it again")
    return out
