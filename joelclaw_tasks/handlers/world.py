"""The real world of a handler, made once per worker process or thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from joelclaw_tasks.handlers.deps import Emit, Notify
from joelclaw_tasks.handlers.fetch import open_client
from joelclaw_tasks.handlers.validation import Validation


@dataclass(frozen=True)
class World:
    """What handlers are given (see Deps). Make it after a fork: `http` holds sockets."""

    data_dir: Path
    emit: Emit
    notify: Notify
    http: httpx.Client = field(default_factory=open_client)
    validation: Validation = field(default=Validation(), kw_only=True)

    def now(self) -> datetime:
        """The current time, aware, UTC."""
        return datetime.now(UTC)

    def close(self) -> None:
        """Close the HTTP connections."""
        self.http.close()
