"""`python -m joelclaw_tasks.fleet.lean_celery …` is `celery …` without the commands of other packages.

Celery imports the commands that packages add to it before it knows which one was asked for: Flower's brings a
web server, up to 14 MB and 80 ms of CPU into every worker and beat. The fleet starts these this way.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

from celery import maybe_patch_concurrency

_ADDED_COMMANDS = "celery.commands"


def main() -> None:
    """Run what the command line says, as `celery` would, and exit as it does."""
    maybe_patch_concurrency()  # before anything else is imported, as `celery` does it
    found = importlib.metadata.entry_points

    def without_added_commands(**selection: Any) -> Any:
        return () if selection.get("group") == _ADDED_COMMANDS else found(**selection)

    importlib.metadata.entry_points = without_added_commands
    try:
        from celery.bin.celery import main as celery
    finally:
        importlib.metadata.entry_points = found
    sys.exit(celery())


if __name__ == "__main__":
    main()
