"""`python -m joelclaw_tasks.ingress`: the ingress under uvicorn, with what a public door needs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.ingress.app import create_app, emitter_of
from joelclaw_tasks.settings import Settings

HEAD_TIMEOUT_S = 10.0
STOP_WITHIN_S = 10
#: Open connections beyond this are answered 503.
MAX_CONNECTIONS = 1_000


class PunctualProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # chosen at run time by uvicorn
    """uvicorn's protocol with a deadline for the head of a request.

    uvicorn waits for ever for a head that never ends, so that a few hundred silent
    connections could shut everybody else out. (Bodies have a deadline of their own.)
    """

    _head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection opens: its first head is due."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Bytes arrive: either a request is under way now, or the rest of its head is due."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_expecting()
        elif self._head_deadline is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_expecting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; requests under way are finished first. Exit code 0 on a clean stop."""
    parser = argparse.ArgumentParser(prog="python -m joelclaw_tasks.ingress", description=__doc__)
    parser.add_argument("--host", help="address to listen on (default: the setting ingress_host)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the setting ingress_port)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.load(ingress_host=arguments.host, ingress_port=arguments.port)
        app = create_app(settings, emitter_of(settings))
    except JoelclawError as exc:
        sys.stderr.write(f"{exc.code}: {exc}\n{exc.fix}\n")
        return 1
    config = uvicorn.Config(
        app,
        host=settings.ingress_host,
        port=settings.ingress_port,
        http=PunctualProtocol,
        ws="none",
        lifespan="on",
        backlog=2048,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        # Whom to believe about the sender's address is decided in throttle.py alone.
        proxy_headers=False,
        server_header=False,
        # An access line would hold the query string, and a careless sender may put a token there.
        access_log=False,
        log_config=None,
    )
    # uvicorn raises the signal again after its clean stop; that must not become exit code 143.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


def _ignore(_number: int, _frame: Any) -> None:
    return None


if __name__ == "__main__":
    sys.exit(main())
