"""Files and folders appear whole or not at all and last; what others wrote is read within bounds."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from gru4rec.errors import DataError, GRU4RecError

# RuntimeError: pyarrow hands on exceptions of C++ as such; RecursionError is one too.
UNREADABLE = (pa.ArrowException, ArithmeticError, MemoryError, OSError, RuntimeError, SafetensorError, ValueError)
MESSAGE_CHARACTERS = 500
TEXT_BYTES = 2**20  # a file that people write by hand is smaller
SPARE_BYTES, EXPANSION = 2**24, 200  # a compressed log is 5 to 30 times smaller than its content


def read_text(path: Path) -> str:
    """Return the content of a text file that people write by hand; more than `TEXT_BYTES` are never read.

    Raises
    ------
    OSError, ValueError
        When it cannot be opened, is longer, or is not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(TEXT_BYTES + 1)
    if len(content) > TEXT_BYTES:
        raise ValueError(f"it has more than {TEXT_BYTES:,} bytes")
    return content.decode()


def check_expansion(path: Path, expanded_bytes: int) -> None:
    """Refuse a file whose content is out of proportion to its size: a small file must not fill the memory.

    Raises
    ------
    DataError
        When the content takes more than `SPARE_BYTES` and `EXPANSION` times the size of the file.
    """
    size = path.stat().st_size
    if expanded_bytes > SPARE_BYTES + EXPANSION * size:
        raise DataError(
            f"{path.name} has {size:,} bytes and holds more than {EXPANSION} times as much ({expanded_bytes:,} so far)",
            "if it is to be trusted, write it again without compression",
        )


@contextmanager
def unreadable_as(kind: type[GRU4RecError], name: str | Path, hint: str | None = None) -> Iterator[None]:
    """Turn what libraries raise on damaged or hostile content into one of our errors, which names the file."""
    try:
        yield
    except kind:
        raise
    except UNREADABLE as error:
        raise kind(f"{name} cannot be read: {first_line(error)}", hint) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind when it has none, fit for a message of one line."""
    line = next((line for line in map(str.strip, str(error).splitlines()) if line), type(error).__name__)
    return shorten(line)


def shorten(text: str) -> str:
    """Return a text fit to stand in a message: what is long loses its end.

    >>> shorten("a" * 600)[495:]
    'aaaaa ...'
    """
    return text if len(text) <= MESSAGE_CHARACTERS else f"{text[:MESSAGE_CHARACTERS]} ..."


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename what was written there to `path`, or remove it on an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path`, replacing what is there, or remove it on error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        for written in (*new.rglob("*"), new):
            sync(written)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        sync(path.parent)
    finally:
        shutil.rmtree(temporary)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's list of names, written to the disk itself: a power cut cannot take it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
