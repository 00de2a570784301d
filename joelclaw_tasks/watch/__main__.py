"""`python -m joelclaw_tasks.watch`: the watcher as a process of the fleet."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.watch.run import roots_of, watch


def main() -> int:
    """Watch what the settings name until SIGTERM or SIGINT. Exit code 0 on a clean stop."""
    stop = threading.Event()

    def ask(_number: int, _frame: Any) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    try:
        settings = Settings.load()
        roots = roots_of(settings)
        watch(settings, roots, say=_say, stop=stop, on_ready=lambda: _say(f"watching {len(roots)} folder(s)"))
    except JoelclawError as error:
        sys.stderr.write(f"{error.code}: {error}\n{error.fix}\n")
        return 1
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"watch: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
