"""The files of a model folder and the digests that seal them; what they mean is `gru4rec.model_folder`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from gru4rec.errors import ModelFolderError, unknown_name
from gru4rec.files import atomic_folder, file_digest, read_text, unreadable_as

FILES = ("config.json", "weights.safetensors", "items.parquet", "metrics.json", "README.md")
DIGESTS = "SHA256SUMS"
PARTS = {
    "search": ("search.toml", "leaderboard.csv", "curve.csv"),
    "examples": ("input.csv", "expected.csv"),
    "onnx": ("model.onnx", "step.onnx", "model.int8.onnx", "items.csv", "parity.json"),
}
"""Folders that a model folder may have, and the files that may be in them."""
PART_FILES = tuple(f"{part}/{name}" for part, names in PARTS.items() for name in names)

Writer = Callable[[Path], None]
"""A function that writes the files of a part into the folder that it is given."""


def add_files(path: str | Path, part: str, write: Writer) -> None:
    """Give a model folder a part, in place of an earlier one; the folder changes as a whole or not at all.

    Parameters
    ----------
    path : path
        A model folder.
    part : str
        One of `PARTS`.
    write : callable
        Called with a folder, into which it writes files of the names that `PARTS` lists.

    Raises
    ------
    ModelFolderError
        When `path` is no sound model folder, or the part or one of its files has another name.
    """
    path = Path(path)
    with unreadable_as(ModelFolderError, path, "take a fresh copy of the folder"):
        kept = [name for name in check_seal(path) if not name.startswith(f"{part}/")]
    with atomic_folder(path) as folder:
        for name in kept:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(path / name, folder / name)
        write_part(folder, part, write)
        seal(folder)


def write_part(folder: Path, part: str, write: Writer) -> None:
    """Write a part into a folder that is not sealed yet.

    Raises
    ------
    ModelFolderError
        When the part or one of its files has a name that `PARTS` does not list.
    """
    if part not in PARTS:
        raise ModelFolderError(unknown_name(part, PARTS, "part of a model folder"))
    (folder / part).mkdir()
    write(folder / part)
    foreign = sorted({file.name for file in (folder / part).iterdir()} - {*PARTS[part]})
    if foreign:
        raise ModelFolderError(f"{part}/ of a model folder may hold {', '.join(PARTS[part])}, got {foreign[0]!r}")


def seal(folder: Path) -> None:
    """Write the digests of all files of a model folder."""
    names = [name for name in (*FILES, *PART_FILES) if (folder / name).exists()]
    digests = {name: file_digest(folder / name) for name in names}
    (folder / DIGESTS).write_text(_render_digests(digests), encoding="utf-8")


def _render_digests(digests: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def check_seal(path: Path) -> list[str]:
    """Return the names of the files of a model folder; all of them are there and as they were written.

    Raises
    ------
    ModelFolderError
        When a file is missing, altered, foreign, outside the folder, or something else than a file.
    """
    if not path.is_dir():
        raise ModelFolderError(f"{path} is not a model folder", "it should hold " + ", ".join((*FILES, DIGESTS)))
    check_places(path, (*FILES, DIGESTS))
    text = read_text(path / DIGESTS)
    lines = text.split("\n")[:-1]  # strictly: what we wrote ends in a newline
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    foreign = [name for name in recorded if name not in (*FILES, *PART_FILES)]
    if foreign:
        raise ModelFolderError(f"{path}/{DIGESTS} names {foreign[0]!r}, expected {', '.join((*FILES, *PART_FILES))}")
    missing = [name for name in FILES if name not in recorded]
    check_places(path, [name for name in recorded if name in PART_FILES])
    altered = [name for name in recorded if file_digest(path / name) != recorded[name]]
    whole = text == _render_digests(recorded)  # without its last newline, it would lack the last file of a part
    if missing or altered or not whole:
        names = ", ".join([*altered, *(f"{name} in {DIGESTS}" for name in missing)]) or DIGESTS
        raise ModelFolderError(f"{path} is damaged: {names} not as written", "take a fresh copy of the folder")
    return list(recorded)


def check_places(path: Path, names: tuple[str, ...] | list[str]) -> None:
    """Refuse what is no file of this folder: a link that leads out of it, a folder, a pipe, a device.

    Raises
    ------
    ModelFolderError
        On the first of them, and when one is missing.
    """
    for name in names:
        file = path / name
        if not file.exists():
            raise ModelFolderError(f"{path} is incomplete: it has no {name}", "take a fresh copy of the folder")
        if not file.resolve().is_relative_to(path.resolve()):
            raise ModelFolderError(f"{file} is a link out of its folder", "copy the folder with its links followed")
        if not file.is_file():
            raise ModelFolderError(f"{file} is not a file", "take a fresh copy of the folder")
