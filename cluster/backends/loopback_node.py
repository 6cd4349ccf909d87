"""`ray start` for a node that listens on 127.0.0.1 only: `python -m cluster.backends.loopback_node start ...`.

On Linux Ray turns 127.0.0.1 into the machine's own address and then listens on every interface; on macOS and Windows it
keeps 127.0.0.1, and its servers listen there alone. This has it do on Linux what it does there, and lets several nodes
join, which Ray allows on Linux only. Each node also unpacks working folders in a place of its own: nodes of one machine
share a session folder, and would delete what another still uses.
"""

from __future__ import annotations

import os
import sys

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Run Ray's command line."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # for what is started from here: keep 127.0.0.1
    from ray._private import ray_constants, services
    from ray.scripts.scripts import main as ray_command

    ray_constants.ENABLE_RAY_CLUSTER = True
    (name,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--node-name=")]
    ray_constants.DEFAULT_RUNTIME_ENV_DIR_NAME = f"runtime_resources-{name}"
    services.get_node_ip_address = lambda address=None: LOOPBACK
    ray_command()


if __name__ == "__main__":
    main()
