"""The HTTP server of a replica: one port for all replicas of a machine, and an end without a cut answer."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn

from gru4rec.errors import GRU4RecError
from serving.settings import Settings

CONNECTIONS_THAT_WAIT = 1024
KEEP_ALIVE_S = 60


class Listener:
    """Listens from its making on, in the event loop that is running.

    Parameters
    ----------
    application : ASGI application
    settings : Settings

    Raises
    ------
    OSError
        When the address cannot be listened on.
    """

    def __init__(self, application: Any, settings: Settings) -> None:
        config = uvicorn.Config(
            application,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_s),
        )
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve([open_socket(settings.host, settings.port)]))

    def check(self) -> None:
        """Raise when the server has ended by itself."""
        if self._task.done():
            raise GRU4RecError("the HTTP server of this replica has ended", "Ray's log of the replica has the reason")

    async def stop(self) -> None:
        """Accept nothing more, and end when what was accepted is answered."""
        self._server.should_exit = True
        await self._task


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens beside those of other replicas.

    Raises
    ------
    OSError
        When the address is not one of this machine, or its port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, port))
    listening.listen(CONNECTIONS_THAT_WAIT)
    return listening
