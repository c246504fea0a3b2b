"""uvicorn in a thread of the daemon, with TLS where the site gives a certificate, ended within seconds."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from prioritizer.errors import ConfigError
from prioritizer.web.http.connection_limits import Guarded


class WebServer:
    """Serves the application until `stop`."""

    def __init__(self, app: FastAPI, host: str, port: int, certificate: Path | None = None, key: Path | None = None) -> None:
        self._app = app
        self._socket = self._bind(host, port)
        self.port = int(self._socket.getsockname()[1])
        # Who is before the proxy is read by `http/auth.py`, from the addresses the site names; uvicorn must not guess.
        config = uvicorn.Config(
            app, http=Guarded, ws="none", log_config=None, access_log=False,
            timeout_graceful_shutdown=2, server_header=False, proxy_headers=False,
            ssl_certfile=certificate, ssl_keyfile=key,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    def _bind(self, host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Named as TCP, or asyncio leaves Nagle on, and every short page waits 40 ms for an acknowledgement.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
            # From here on nobody is refused: who comes before the server runs is answered when it does.
            bound.listen(512)
        except OSError as error:
            bound.close()
            raise ConfigError((f"web.port: {host}:{port} cannot be used ({error.strerror}); choose another web.port",)) from error
        return bound

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests under way and end; open streams first, or they would be waited for."""
        getattr(self._app.state, "end_streams", lambda: None)()
        self._server.should_exit = True
        self._thread.join(timeout=4)
