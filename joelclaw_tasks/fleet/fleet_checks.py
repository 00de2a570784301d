"""The doctor's checks of the running fleet: its processes, its doors, the queues that its workers serve."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from joelclaw_tasks.address import Address
from joelclaw_tasks.fleet.check import Check, fail, ok, warn
from joelclaw_tasks.fleet.leftovers import start_mark
from joelclaw_tasks.fleet.process_spec import http_ok

_ANSWER_WITHIN_S, _ANSWER_LATE_S = 1.0, 3.0
_DOORS = {"ingress": "/healthz", "flower": "/healthcheck"}
_UNSTEADY_RESTARTS = 3


def process_checks(state: Mapping[str, Any] | None) -> Iterator[Check]:
    """Whether every process of the fleet is alive and every door answers."""
    if state is None:
        yield warn("fleet", "no fleet runs here", "Start one with `joelclaw up`.")
        return
    if not isinstance(state.get("pid"), int) or start_mark(state["pid"]) is None:
        yield fail(
            "fleet",
            "its supervisor is gone without having stopped it",
            "Start it again with `joelclaw up`, which also ends what was left.",
        )
        return
    yield ok("fleet", f"process {state['pid']}, since {state.get('started_at')}")
    for name, process in state.get("processes", {}).items():
        yield _process_check(name, process)
    for name, path in _DOORS.items():
        url = state.get(f"{name}_url")
        if url:
            yield _door_check(name, str(url), path)


def _process_check(name: str, process: Mapping[str, Any]) -> Check:
    log = f"Read logs/{name}.log in JOELCLAW_HOME."
    pid, restarts = process.get("pid"), process.get("restarts", 0)
    if not isinstance(pid, int) or start_mark(pid) is None:
        return fail(name, "is not running; the supervisor starts it again after a delay", log)
    if restarts > _UNSTEADY_RESTARTS:
        return warn(name, f"process {pid}, started again {restarts} times", log)
    return ok(name, f"process {pid}")


def _door_check(name: str, url: str, path: str) -> Check:
    parts = urlsplit(url)
    probe = http_ok(parts.port or 80, path, parts.hostname or "127.0.0.1")

    async def answers() -> bool:
        return await probe()

    if asyncio.run(answers()):
        return ok(f"{name} answers", f"{url}{path}")
    return fail(
        f"{name} answers", f"{url}{path} does not answer 200", f"Read logs/{name}.log in JOELCLAW_HOME."
    )


def queue_checks(redis_url: str, queues: frozenset[str], *, expected: bool) -> Iterator[Check]:
    """Whether running workers serve every queue that the registry names.

    No worker at all is a failure only where some are `expected`: where a fleet says that it runs.
    """
    served = served_queues(redis_url, _ANSWER_WITHIN_S)
    if queues - set().union(*served.values()):
        # A busy machine answers late; a queue that nobody serves is worth the wait.
        served = served_queues(redis_url, _ANSWER_LATE_S)
    if not served:
        found = fail if expected else warn
        yield found(
            "workers", "no worker answers", "Start the fleet with `joelclaw up`, or a worker by hand."
        )
        return
    yield ok("workers", ", ".join(sorted(served)))
    unserved = sorted(queues - set().union(*served.values()))
    if unserved:
        yield warn(
            "queues",
            f"no running worker serves {', '.join(unserved)}: what is admitted there waits",
            f"Start one: `celery -A joelclaw_tasks worker -Q {','.join(unserved)}`, or correct the registry.",
        )
    else:
        yield ok("queues", f"{', '.join(sorted(queues))}: each is served")


def served_queues(redis_url: str, within_s: float) -> dict[str, set[str]]:
    """Which queues each worker consumes that answers on this Redis in time."""
    from celery import Celery

    # An app of its own: this fleet's Redis is what is asked, whatever this process is configured for.
    with Celery("doctor", set_as_current=False) as app:
        app.conf.update(Address.parse(redis_url).celery_settings(), broker_connection_retry=False)
        answers = app.control.inspect(timeout=within_s).active_queues() or {}
    return {worker: {queue["name"] for queue in queues} for worker, queues in answers.items()}


def secret_checks(state: Mapping[str, Any] | None, env: Mapping[str, str]) -> Iterator[Check]:
    """Whether the doors have their secrets: in the running ingress where that can be seen, else here."""
    running = _environment(state)
    where = "in the running ingress" if running is not None else "in this shell"
    known = env if running is None else running
    doors = {"GITHUB_WEBHOOK_SECRET": "GitHub webhooks", "JOELCLAW_EVENTS_TOKEN": "POST /events"}
    for name, door in doors.items():
        if known.get(name):
            yield ok(name, f"set {where}")
        else:
            yield warn(
                name,
                f"missing {where}: the ingress refuses {door}",
                f"Set {name} in the environment of `joelclaw up`, and start it again.",
            )


def _environment(state: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Names of the running ingress's environment, where the system shows them to its owner."""
    ingress = (state or {}).get("processes", {}).get("ingress") or {}
    try:
        entries = Path(f"/proc/{ingress.get('pid')}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    pairs = (entry.decode(errors="replace").partition("=") for entry in entries)
    return {name: "set" for name, _, value in pairs if value}
