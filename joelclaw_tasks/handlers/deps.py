"""What a handler may touch, as values it is given: never the fleet, never Celery."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx

from joelclaw_tasks.handlers.validation import Validation


class Emit(Protocol):
    """How a handler emits a follow-up event; with the same `id`, emitting twice is harmless."""

    def __call__(
        self, name: str, data: Mapping[str, Any], *, id: str | None = None, source: str = ...
    ) -> object: ...


class Notify(Protocol):
    """How a handler tells the operator something, in plain language; `cause` groups repeats.

    Severity: info, warning, error, critical. `change`: a state is opened, changed, resolved (docs/notify.md).
    """

    def __call__(self, text: str, *, cause: str, severity: str = "info", change: str = "") -> None: ...


class Deps(Protocol):
    """The world of a handler.

    `data_dir` is where it keeps files (it may be shared by several worker processes, so write
    atomically). `now()` is an aware UTC datetime. `validation`: what content/updated goes by.
    """

    @property
    def data_dir(self) -> Path: ...

    @property
    def http(self) -> httpx.Client: ...

    @property
    def emit(self) -> Emit: ...

    @property
    def validation(self) -> Validation: ...

    @property
    def notify(self) -> Notify: ...

    def now(self) -> datetime: ...
