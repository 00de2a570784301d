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
from typing import Any

import redis

from joelclaw_tasks.core.redaction import redacted, secrets_of
from joelclaw_tasks.routines import endpoints, local_checks
from joelclaw_tasks.routines.finding import Finding

MOST_ASKED_BYTES = 65_536

_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Finding]] = {
    "redis": local_checks.redis_finding,
    "disk": local_checks.check_disk,
    "beat": local_checks.check_beat,
    "workers": local_checks.check_workers,
    "ingress": endpoints.check_http,
    "http": endpoints.check_http,
    "tcp": endpoints.check_tcp,
    "telegram": endpoints.check_telegram,
    "anthropic": endpoints.check_anthropic,
    "python": local_checks.check_python,
}


def look(asked: Mapping[str, Any]) -> Finding:
    """What the check finds. Any other exception, as somebody's own function may raise, is a broken check."""
    try:
        return _KINDS[asked["kind"]](asked)
    except endpoints.NoAnswer as error:
        return error.finding
    except redis.RedisError as error:
        return Finding("down", f"Redis does not answer: {type(error).__name__}")
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
