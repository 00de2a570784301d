"""`python -m joelclaw_tasks.ingress`: the ingress under uvicorn, with what a public door needs."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
from typing import Any

import uvicorn

from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import JoelclawError, SettingsError
from joelclaw_tasks.ingress.app import create_app, emitter_of
from joelclaw_tasks.ingress.protocol import PunctualProtocol
from joelclaw_tasks.settings import Settings, is_loopback

STOP_WITHIN_S = 10
#: Open connections beyond this are answered 503.
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
        timeout_keep_alive=KEEP_ALIVE_S,
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
    # What was imported stays, and what was answered leaves no circles behind: the collector, which takes 7 %
    # of a crowd's time with Python's own thresholds, may look more rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


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


def _ignore(_number: int, _frame: Any) -> None:
    return None


if __name__ == "__main__":
    sys.exit(main())
