"""`python -m joelclaw_tasks.fleet.lean_celery …` is `celery …` without what the fleet's processes never use.

Celery imports the commands that packages add to it before it knows which one was asked for: Flower's brings a
web server, up to 14 MB and 80 ms of CPU into every worker and beat. Celery's own `amqp` brings an interactive
shell (7 MB), and httpx its command line (3 MB). The fleet starts its Celery processes this way.
"""

from __future__ import annotations

import importlib.metadata
import sys
from types import ModuleType
from typing import Any, cast

from celery import maybe_patch_concurrency

_ADDED_COMMANDS = "celery.commands"
_SHELL = "click_repl"


class _NoShell(ModuleType):
    """Stands in for click_repl, while Celery adds a shell to the command `amqp`."""

    @staticmethod
    def register_repl(_group: Any) -> None:
        """Add none."""


def main() -> None:
    """Run what the command line says, as `celery` would, and exit as it does."""
    maybe_patch_concurrency()  # before anything else is imported, as `celery` does it
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules["httpx._main"] = None  # an import of it fails, and httpx does without
    found = importlib.metadata.entry_points

    def without_other_commands(**selection: Any) -> Any:
        entries: Any = found(**selection)
        if selection.get("group") != _ADDED_COMMANDS:
            return entries
        return [entry for entry in entries if entry.name in sys.argv]

    importlib.metadata.entry_points = without_other_commands
    modules[_SHELL] = _NoShell(_SHELL)
    try:
        from celery.bin.celery import main as celery
    finally:
        importlib.metadata.entry_points = found
        del modules[_SHELL]  # whoever wants it from here on gets the real one
    sys.exit(celery())


if __name__ == "__main__":
    main()
