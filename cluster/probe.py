"""The doctor on the cluster's side: `python -m cluster.probe` in the working folder of a submission."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cluster.checks import check_nodes
from cluster.events import CHECKS, PROBLEM, tell
from cluster.package import ORDER
from gru4rec.errors import GRU4RecError
from tuning.ray_runtime import connect


def main() -> None:
    """Check the nodes, and tell what was found."""
    order = json.loads(Path(ORDER).read_text(encoding="utf-8"))
    try:
        connect("auto")
        tell(CHECKS, [check.as_row() for check in check_nodes(order)])
    except GRU4RecError as error:
        tell(PROBLEM, str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
