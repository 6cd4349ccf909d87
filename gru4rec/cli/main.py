"""The command group: finds commands, turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import EntryPoint, entry_points

import click

from gru4rec.errors import GRU4RecError

BUILT_IN = {
    "data": "gru4rec.cli.data:data",
    "fit": "gru4rec.cli.fit:fit",
    "evaluate": "gru4rec.cli.evaluate:evaluate",
    "recommend": "gru4rec.cli.recommend:recommend",
    "inspect": "gru4rec.cli.inspect:inspect",
    "verify": "gru4rec.cli.verify:verify",
    "convert": "gru4rec.cli.convert:convert",
}
INTERRUPTED = 130


class CommandGroup(click.Group):
    """Built-in commands, and those that other packages register in the entry-point group gru4rec.commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*BUILT_IN, *(point.name for point in _plug_ins())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in BUILT_IN:
            module, attribute = BUILT_IN[cmd_name].split(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        for point in _plug_ins():
            if point.name == cmd_name:
                loaded: click.Command = point.load()
                return loaded
        return None


def _plug_ins() -> list[EntryPoint]:
    return sorted(entry_points(group="gru4rec.commands"), key=lambda point: point.name)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gru4rec-tune")
def cli() -> None:
    """From an event log to a tuned next-item recommender."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (failed), 2 (usage), 3 (cluster), 130 (interrupted) or 143 (terminated)."""
    try:
        cli.main(arguments, standalone_mode=False)
    except GRU4RecError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        is_serve = "serve" in (sys.argv[1:] if arguments is None else arguments)[:1]
        extra = "serve" if is_serve else {"ray": "tune", "optuna": "tune"}.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        click.echo(f"error: this command needs {error.name}; hint: pip install 'gru4rec-tune[{extra}]'", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
