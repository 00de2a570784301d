"""run_handler: one handler, called once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.fleet.task import load_target
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.testing.clock import Clock
from joelclaw_tasks.testing.immediate import Inline
from joelclaw_tasks.testing.world import registry_of, surroundings


class Handled(Inline):
    """What one call of a handler did: its `result`, and what it emitted and told. Nothing else runs."""

    result: Any = None

    def run_due(self) -> None:
        """What the handler emits is checked and noted, not run."""


def run_handler(
    handler: str | Callable[[Event, Deps], Any],
    data: Mapping[str, Any],
    *,
    registry: Registry | Path | None = None,
    event: str | None = None,
    id: str | None = None,
    data_dir: Path | None = None,
    clock: Clock | None = None,
    http: httpx.Client | None = None,
) -> Handled:
    """Call a handler once with an event that holds `data`; answers what it did, or raises what it raises.

    `handler` is its name in the registry, or the function itself. `event` is the name of the event: that
    of the handler's family unless given. The other arguments are as for `inline`.
    """
    known = registry_of(registry)
    if isinstance(handler, str) and known.handler(handler).restate is not None:
        raise ValueError(f"{handler} runs in Restate, so there is no function to call")
    function = load_target(known.handler(handler).target) if isinstance(handler, str) else handler
    family = event or next(
        (e.name for e in known.events.values() for h in e.handlers if h.name == handler), "test"
    )
    with surroundings(data_dir, http) as (folder, client):
        handled = Handled(known, folder, clock or Clock(), client)
        given = Event(
            id=id or str(uuid.uuid4()),
            name=family,
            source="test",
            data=dict(data),
            at_ms=handled.clock.now_ms(),
        )
        handled.result = function(given, handled.world)
    return handled
