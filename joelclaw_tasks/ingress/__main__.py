"""`python -m joelclaw_tasks.ingress`: the ingress under uvicorn, with what a public door needs."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import JoelclawError, SettingsError
from joelclaw_tasks.ingress.app import create_app, emitter_of
from joelclaw_tasks.ingress.protocol import PunctualProtocol
from joelclaw_tasks.ingress.shared_throttle import SharedThrottle
from joelclaw_tasks.ingress.siblings import BACKLOG, Siblings, close, open_doors, processes_for
from joelclaw_tasks.settings import Settings, is_loopback

log = logging.getLogger(__name__)

STOP_WITHIN_S = 10
#: Open connections of a process beyond this are answered 503.
MAX_CONNECTIONS = 1_000
#: Whoever keeps a connection for later must be the first to close it: what is sent at the moment in which we
#: do is lost. Proxies and tunnels keep theirs for 60 to 90 s.
KEEP_ALIVE_S = 120


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; requests under way are finished first. Exit code 0 on a clean stop."""
    parser = argparse.ArgumentParser(prog="python -m joelclaw_tasks.ingress", description=__doc__)
    parser.add_argument("--host", help="address to listen on (default: the setting ingress_host)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the setting ingress_port)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.load(ingress_host=arguments.host, ingress_port=arguments.port)
        _refuse_open_door(settings)
        emitter = emitter_of(settings)
        processes = processes_for(settings.ingress_processes)
        doors = open_doors(settings.ingress_host, settings.ingress_port, processes)
    except JoelclawError as exc:
        sys.stderr.write(f"{exc.code}: {exc}\n{exc.fix}\n")
        return 1
    # What was imported stays, and what was answered leaves no circles behind: the collector, which takes 7 %
    # of a crowd's time with Python's own thresholds, may look more rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    throttles = SharedThrottle.for_each(processes)
    siblings = Siblings()
    number = siblings.fork(processes)
    for other, door in enumerate(doors):
        if other != number:  # a connection at a door that stays open behind its process would wait for ever
            close(door)
    server = _Server(_config(create_app(settings, emitter, throttles[number])), siblings)
    # uvicorn takes them over while it serves and raises them again after its clean stop, which must not
    # become exit code 143; and one that comes before is not lost.
    for stops in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stops, server.handle_exit)
    signal.signal(signal.SIGCHLD, server.on_child)
    server.on_child()  # for one that ended before
    server.run(sockets=doors[number])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    siblings.stop()
    siblings.join()
    return 0 if server.started and not siblings.failed else 1


class _Server(uvicorn.Server):
    """uvicorn's server, with which its siblings stop."""

    def __init__(self, config: uvicorn.Config, siblings: Siblings) -> None:
        super().__init__(config)
        self._siblings = siblings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to stop."""
        self._siblings.stop()
        super().handle_exit(sig, frame)

    def on_child(self, *_: Any) -> None:
        """A sibling has ended: go, too, and be started again together."""
        self._siblings.reap()
        if self._siblings.failed and not self.should_exit:
            log.error("a process of the ingress ended by itself; the others stop")
            self._siblings.stop()
            self.should_exit = True


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PunctualProtocol,
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        # Whom to believe about the sender's address is decided in throttle.py alone.
        proxy_headers=False,
        server_header=False,
        # An access line would hold the query string, and a careless sender may put a token there.
        access_log=False,
        log_config=None,
    )


def _refuse_open_door(settings: Settings) -> None:
    """Raises SettingsError for an address that others can reach while nothing says who may come in."""
    tokens = Credentials(settings.events_token, settings.events_token_file)
    secrets = Credentials(settings.github_webhook_secret, settings.github_webhook_secret_file)
    telegram = Credentials(settings.telegram_webhook_secret, settings.telegram_webhook_secret_file)
    if not is_loopback(settings.ingress_host) and not (tokens() or secrets() or telegram()):
        raise SettingsError(
            f"the ingress may not listen on {settings.ingress_host!r}, without a secret",
            fix="Set JOELCLAW_EVENTS_TOKEN or GITHUB_WEBHOOK_SECRET (or the _FILE of one), or use 127.0.0.1.",
        )


if __name__ == "__main__":
    sys.exit(main())
