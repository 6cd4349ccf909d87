"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
SECONDS_IN = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, written as 90, 90s, 15m, 2h or 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value.strip())
        if found is None or float(found[1]) == 0:
            self.fail(f"{value!r} is no duration, write it as 90s, 15m or 2h", param, ctx)
        return float(found[1]) * SECONDS_IN[found[2]]


DURATION = Duration()


def log_format_options(command: Command) -> Command:
    """Add --session-key, --item-key, --time-key, --time-unit; the command gets them as `log_format`."""

    @click.option("--session-key", default="SessionId", show_default=True, help="Column of the session id.")
    @click.option("--item-key", default="ItemId", show_default=True, help="Column of the item id.")
    @click.option("--time-key", default="Time", show_default=True, help="Column of the time.")
    @click.option("--time-unit", default="s", show_default=True, help="Unit of numeric times: s, ms, us or ns.")
    @wraps(command)
    def wrapped(*args: Any, session_key: str, item_key: str, time_key: str, time_unit: str, **kwargs: Any) -> Any:
        from gru4rec.data.reading import LogFormat

        return command(*args, log_format=LogFormat(session_key, item_key, time_key, time_unit), **kwargs)

    return wrapped


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:0, ...")


def threads_option(command: Command) -> Command:
    """Add --threads and set it before the command runs."""

    @click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of torch.")
    @wraps(command)
    def wrapped(*args: Any, threads: int, **kwargs: Any) -> Any:
        import torch

        torch.set_num_threads(threads)
        return command(*args, **kwargs)

    return wrapped
