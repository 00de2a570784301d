"""One look of one check in a process of its own: `python -m joelclaw_tasks.routines.check_process`.

What is asked comes as JSON on stdin, since it may hold a secret; the finding goes to stdout as JSON. Whatever
else is written goes nowhere. It ends itself, even when whoever started it is gone.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from joelclaw_tasks.core.redaction import redacted, secrets_of
from joelclaw_tasks.routines.finding import Finding, NoAnswer

MOST_ASKED_BYTES = 65_536

#: Where the check of each kind is. Loaded when it is asked for: to load all takes longer than to look.
_PACKAGE = "joelclaw_tasks.routines"
_KINDS: Mapping[str, tuple[str, str]] = {
    "redis": ("redis_checks", "check_server"),
    "beat": ("redis_checks", "check_beat"),
    "workers": ("redis_checks", "check_workers"),
    "disk": ("local_checks", "check_disk"),
    "python": ("local_checks", "check_python"),
    "ingress": ("endpoints", "check_http"),
    "http": ("endpoints", "check_http"),
    "restate": ("endpoints", "check_restate"),
    "tcp": ("endpoints", "check_tcp"),
    "telegram": ("endpoints", "check_telegram"),
    "anthropic": ("endpoints", "check_anthropic"),
}


def look(asked: Mapping[str, Any]) -> Finding:
    """What the check finds. Any other exception, as somebody's own function may raise, is a broken check."""
    try:
        module, name = _KINDS[asked["kind"]]
        check: Callable[[Mapping[str, Any]], Finding] = getattr(import_module(f"{_PACKAGE}.{module}"), name)
        return check(asked)
    except NoAnswer as error:
        return error.finding
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told
        return Finding.broken(redacted(f"{type(error).__name__}: {error}", secrets_of())[:200])


def look_in_time(asked: Mapping[str, Any]) -> Finding:
    """`look`, given up after `timeout_s`: a server may drip for ever.

    Somebody's own function is not given up: why it hangs nobody knows, so its whole process is ended.
    """
    if asked["kind"] == "python":
        return look(asked)
    found: list[Finding] = []
    thread = threading.Thread(target=lambda: found.append(look(asked)), daemon=True)
    thread.start()
    thread.join(asked["timeout_s"])
    return found[0] if found else Finding("down", f"does not answer within {asked['timeout_s']:g} s")


def main() -> None:
    """Read, look, answer, end."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.loads(sys.stdin.buffer.read(MOST_ASKED_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(asked["limit_s"]) + 1)
    answer = json.dumps(look_in_time(asked).to_wire()).encode()
    os.write(answers, answer)
    os._exit(0)  # a thread may still wait for a server


if __name__ == "__main__":
    main()
