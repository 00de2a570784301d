"""For tests of your own handlers and apps: see docs/testing.md.

`run_handler` calls one handler. `inline` runs every handler of what is emitted, at once and without Redis.
`fleet` is a worker in this process on a Redis of its own. Each stands on a clock that moves when the test
says so. Names load when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joelclaw_tasks.testing.clock import Clock
    from joelclaw_tasks.testing.embedded import Fleet, fleet
    from joelclaw_tasks.testing.immediate import Inline, inline
    from joelclaw_tasks.testing.record import Emitted, Notified, Run
    from joelclaw_tasks.testing.single import Handled, run_handler

_HOMES = {
    "Clock": "clock",
    "Emitted": "record",
    "Fleet": "embedded",
    "Handled": "single",
    "Inline": "immediate",
    "Notified": "record",
    "Run": "record",
    "fleet": "embedded",
    "inline": "immediate",
    "run_handler": "single",
}
__all__ = [
    "Clock", "Emitted", "Fleet", "Handled", "Inline", "Notified", "Run", "fleet", "inline", "run_handler",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
