"""Door: what the endpoints share while the ingress runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.ingress.funnel import Funnel
from joelclaw_tasks.ingress.throttle import FailureThrottle
from joelclaw_tasks.ingress.tracing import attached
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.receipt import Receipt
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

log = logging.getLogger(__name__)

_COMPLAIN_EVERY_S = 60.0


@dataclass(slots=True, eq=False)
class Door:
    """One running ingress."""

    settings: Settings
    emitter: Emitter
    funnel: Funnel
    throttle: FailureThrottle = field(default_factory=FailureThrottle)
    #: The bearer tokens of /events; none: everything is refused there.
    tokens: Credentials = field(init=False)
    #: What Telegram sends with each update; none: everything is refused there.
    telegram_secrets: Credentials = field(init=False)
    _secrets: dict[str, Credentials] = field(init=False)
    _complained_at_s: dict[str, float] = field(default_factory=dict)
    _told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises SettingsError for a file of credentials that cannot be read."""
        own = self.settings
        self.tokens = Credentials(own.events_token, own.events_token_file)
        github = Credentials(own.github_webhook_secret, own.github_webhook_secret_file)
        self._secrets = {"github": github}
        self.telegram_secrets = Credentials(own.telegram_webhook_secret, own.telegram_webhook_secret_file)

    @property
    def registry(self) -> Registry:
        """The events that are known."""
        return self.emitter.registry

    async def emit(self, events: Sequence[NewEvent], trace_context: Any | None) -> list[Receipt]:
        """Emit the events of one request, all or none. Raises what Emitter.emit_many and Funnel.put raise."""
        with attached(trace_context):
            planned = self.emitter.plan(events)
        return await self.funnel.emit(planned)

    def secrets(self, provider: str) -> tuple[str, ...]:
        """The signing secrets of a provider; empty when none is set, and then everything is refused."""
        return self._secrets[provider]() if provider in self._secrets else ()

    def tell(self, line: str) -> None:
        """Log a line; those of one turn of the event loop together, because each write costs a crowd."""
        if not self._told:
            asyncio.get_running_loop().call_soon(self._log_told)
        self._told.append(line)

    def _log_told(self) -> None:
        log.info("%s", "\n".join(self._told))
        self._told.clear()

    def complain(self, path: str, variable: str) -> None:
        """Log that a path refuses everything until a variable is set; at most once a minute for each."""
        now_s = time.monotonic()
        if now_s - self._complained_at_s.get(path, float("-inf")) > _COMPLAIN_EVERY_S:
            self._complained_at_s[path] = now_s
            log.error("%s refuses everything: set %s", path, variable)
