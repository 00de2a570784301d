"""Can a worker start with the code that is there now? `python -m joelclaw_tasks.broker.preflight APP`.

Exit code 0: it can. 1: what is wrong, on stderr. Nothing is connected to and nothing is changed.
"""

from __future__ import annotations

import sys
import traceback

from celery.app.utils import find_app

from joelclaw_tasks.broker.install import faults

#: Attribute of an app: a function that answers what else is wrong, one sentence each.
CHECK = "joelclaw_check"


def problems(name: str) -> list[str]:
    """What keeps a worker of that app (as `celery -A` takes it) from starting, one sentence each."""
    try:
        app = find_app(name)
        app.loader.import_default_modules()
        app.finalize()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code that is not ours
        last = traceback.extract_tb(error.__traceback__)[-1]
        return [f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"]
    check = getattr(app, CHECK, list)
    return [*faults(app), *check()]


if __name__ == "__main__":
    sys.path.insert(0, "")  # as the celery command does
    found = problems(sys.argv[1])
    sys.stderr.writelines(f"{each}\n" for each in found)
    sys.exit(1 if found else 0)
