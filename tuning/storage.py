"""Folders and URIs alike: where logs are read from, and where searches on a cluster are written to."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pyarrow import fs

from gru4rec.errors import DataError, GRU4RecError, SearchError
from gru4rec.files import atomic_file


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

    Raises
    ------
    SearchError
        When no filesystem knows the URI.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        try:
            if is_uri(location):
                self._files, self._root = fs.FileSystem.from_uri(location)
            else:
                self._files, self._root = fs.LocalFileSystem(), location
        except (OSError, ValueError) as error:
            raise SearchError(f"storage {location!r} cannot be used: {error}") from None

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
        with self._told("looked at"):
            return bool(self._files.get_file_info(self._place(name)).type != fs.FileType.NotFound)

    def upload(self, source: Path, name: str) -> None:
        """Write a file's content under `name`; it appears whole or not at all."""
        with self._told("written"):
            if self.folder is not None:
                with atomic_file(self.folder / name) as temporary:
                    shutil.copyfile(source, temporary)
                return
            with source.open("rb") as file, self._files.open_output_stream(self._place(name)) as stream:
                shutil.copyfileobj(file, stream, 1 << 20)

    def download(self, name: str, target: Path) -> None:
        """Write the file of that name to `target`; it appears whole or not at all."""
        with (
            self._told("read"),
            atomic_file(target) as temporary,
            self._files.open_input_stream(self._place(name)) as stream,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(stream, file, 1 << 20)

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._told("written"):
            self._files.delete_file(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except GRU4RecError:
            raise
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise SearchError(f"storage {self.location} cannot be {what}: {reason}") from None


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
