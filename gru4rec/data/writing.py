"""Tables of events or recommendations -> CSV, TSV or Parquet, by the name's ending."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gru4rec.data.reading import DELIMITERS
from gru4rec.errors import DataError
from gru4rec.files import atomic_file


def write_log(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table; the file appears whole or not at all.

    Raises
    ------
    DataError
        When the name ends in something else than .csv, .tsv or .parquet.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in {*DELIMITERS, ".parquet"}:
        raise DataError(f"{path} must end in .csv, .tsv or .parquet")
    with atomic_file(path) as temporary:
        if kind == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, sep=DELIMITERS[kind], index=False)
