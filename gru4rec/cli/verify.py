"""`gru4rec verify`: whether a model folder is whole, and computes here what it should."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from gru4rec.cli.options import FOLDER, json_option, threads_option
from gru4rec.cli.output import print_json, print_table


@click.command()
@click.argument("model", type=FOLDER)
@threads_option
@json_option
def verify(model: Path, as_json: bool) -> None:
    """Check the folder MODEL: digests, config.json, items, weights, its examples, and ONNX files where there are any.

    Exits with 1 when a check fails.
    """
    from gru4rec.errors import ModelFolderError
    from gru4rec.verification import verify_model

    checks = verify_model(model)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        words = {True: "passed", False: "FAILED", None: "skipped"}
        rows = [{"check": check.name, "result": words[check.passed], "found": check.detail} for check in checks]
        print_table(rows, ["check", "result", "found"])
    failed = [check for check in checks if check.passed is False]
    if failed:
        raise ModelFolderError(f"{model} is not sound: {failed[0].detail}")
