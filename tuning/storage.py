"""Folders and URIs alike: where logs are read from, and where searches on a cluster are written to."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from pyarrow import fs

from gru4rec.errors import DataError, SearchError, StorageError
from gru4rec.files import atomic_file

Result = TypeVar("Result")
FULL = (errno.ENOSPC, errno.EDQUOT)
LASTING = (*FULL, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0


def is_uri(location: str | Path) -> bool:
    """Whether a location is a URI, such as s3://bucket/log.parquet, and not a path.

    >>> is_uri("s3://bucket/log.parquet"), is_uri("/srv/log.parquet")
    (True, False)
    """
    return "://" in str(location)


class Storage:
    """A folder that may be far away.

    Parameters
    ----------
    location : str
        An absolute path, or a URI that pyarrow's filesystems know: s3, gs, abfs, hdfs, file. What a filesystem needs
        besides stands in the URI's query, such as ?endpoint_override=127.0.0.1:9000&scheme=http; keys come from the
        environment.
    patience_s : float
        For so long an operation that fails is tried again, unless it fails for a reason that does not go away.

    Raises
    ------
    StorageError
        When no filesystem knows the URI. Its methods raise it when an operation fails.
    """

    def __init__(self, location: str, patience_s: float = 0.0) -> None:
        self.location = location
        self._patience_s = patience_s
        try:
            if is_uri(location):
                self._files, self._root = fs.FileSystem.from_uri(location)
            else:
                self._files, self._root = fs.LocalFileSystem(), location
        except (OSError, ValueError) as error:
            raise StorageError(f"storage {location!r} cannot be used: {error}") from None

    @property
    def folder(self) -> Path | None:
        """The folder, when it is one of this machine's file system."""
        return Path(self._root) if isinstance(self._files, fs.LocalFileSystem) else None

    def join(self, *names: str) -> str:
        """Return the location of something in it.

        >>> Storage("s3://bucket/runs?region=eu-west-1").join("a", "ray")
        's3://bucket/runs/a/ray?region=eu-west-1'
        """
        if not is_uri(self.location):
            return str(Path(self.location, *names))
        parts = urlsplit(self.location)
        return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names])))

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        return bool(
            self._try("looked at", lambda: self._files.get_file_info(self._place(name)).type != fs.FileType.NotFound)
        )

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of it, sorted; none when there is no such folder."""
        selector = fs.FileSelector(self._place(folder), allow_not_found=True)
        found = self._try("looked at", lambda: self._files.get_file_info(selector))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder of it, sorted; none when there is no such folder."""
        selector = fs.FileSelector(self._place(folder), allow_not_found=True)
        found = self._try("looked at", lambda: self._files.get_file_info(selector))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def write(self, name: str, content: bytes) -> None:
        """Write a file; it appears whole or not at all."""

        def write() -> None:
            if self.folder is not None:
                with atomic_file(self.folder / name) as temporary:
                    temporary.write_bytes(content)
                return
            with self._files.open_output_stream(self._place(name)) as stream:
                stream.write(content)

        self._try("written", write)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""

        def read() -> bytes:
            with self._files.open_input_stream(self._place(name)) as stream:
                return bytes(stream.read())

        return self._try("read", read)

    def upload(self, source: Path, name: str) -> None:
        """Write a file's content under `name`; it appears whole or not at all."""

        def upload() -> None:
            if self.folder is not None:
                with atomic_file(self.folder / name) as temporary:
                    shutil.copyfile(source, temporary)
                return
            with source.open("rb") as file, self._files.open_output_stream(self._place(name)) as stream:
                shutil.copyfileobj(file, stream, 1 << 20)

        self._try("written", upload)

    def download(self, name: str, target: Path) -> None:
        """Write the file of that name to `target`; it appears whole or not at all."""

        def download() -> None:
            with (
                atomic_file(target) as temporary,
                self._files.open_input_stream(self._place(name)) as stream,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(stream, file, 1 << 20)

        self._try("read", download)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._try("written", lambda: self._files.delete_file(self._place(name)))

    def remove_folder(self, name: str) -> None:
        """Remove a folder and all in it; nothing happens when there is none."""
        self._try("written", lambda: self._files.delete_dir_contents(self._place(name), missing_dir_ok=True))
        if self.exists(name):
            self._try("written", lambda: self._files.delete_dir(self._place(name)))

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def _try(self, what: str, action: Callable[[], Result]) -> Result:
        """Do it, again and again while patience lasts; the error names the storage and what could not be done."""
        ends, pause = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while True:
            try:
                return action()
            except OSError as error:
                if error.errno in LASTING or time.monotonic() + pause > ends:
                    reason = error.strerror or str(error).splitlines()[0]
                    remedy = "free some space" if error.errno in FULL else None
                    raise StorageError(f"storage {self.location} cannot be {what}: {reason}", remedy) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


@contextmanager
def local_copy(location: str | Path) -> Iterator[Path]:
    """Yield the path of a file: its own, or that of a copy of what a URI names, for the time of the context.

    Raises
    ------
    DataError
        When a URI cannot be read.
    """
    if not is_uri(location):
        yield Path(location)
        return
    parts = urlsplit(str(location))
    folder, _, name = parts.path.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="gru4rec-") as temporary:
        target = Path(temporary) / name
        try:
            Storage(urlunsplit(parts._replace(path=folder))).download(name, target)
        except SearchError as error:
            raise DataError(f"{location} cannot be read: {error}") from None
        yield target
