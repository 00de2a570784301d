"""Family: the families of the evaluated worlds, and the registry that declares them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_files import event_file

QUEUE = "work"

#: `steady`: by chance, evenly; `bursts`: the same, in crowds; `timetable`: many at once every ten minutes.
Arrivals = Literal["steady", "bursts", "timetable"]


@dataclass(frozen=True, slots=True)
class Family:
    """One family with one handler, which calls one downstream of its own.

    `per_minute` jobs come in on average, each runs `run_ms` on average, `limit` of them at once.
    `max_retries`, `base_s` and `cap_s` are those of the registry; the defaults are the registry's too.
    """

    name: str
    priority: int
    per_minute: float
    run_ms: int
    limit: int
    arrivals: Arrivals = "steady"
    max_retries: int = 3
    base_s: float = 2
    cap_s: float = 300
    tenants: int = 1
    protected: bool = False
    auto: bool = True

    @property
    def handler(self) -> str:
        """The name of its handler."""
        return self.name.replace("/", ".")


FAMILIES = (
    Family("alert/raised", 0, 0.4, 5_000, 2, protected=True),
    Family("mail/queued", 1, 1.5, 10_000, 3),
    Family("calendar/changed", 1, 0.8, 10_000, 2, max_retries=6, base_s=5),
    Family("feed/due", 2, 2, 10_000, 4, "timetable"),
    Family("page/changed", 2, 2, 20_000, 3, "bursts"),
    Family("note/saved", 2, 1, 10_000, 2, max_retries=5),
    Family("import/requested", 2, 1.6, 20_000, 4, tenants=5),
    Family("bank/pulled", 2, 0.5, 10_000, 2, auto=False),
    Family("search/reindex", 2, 2.4, 10_000, 4, max_retries=8, base_s=5, cap_s=60),
    Family("media/uploaded", 3, 0.4, 90_000, 5),
    Family("digest/due", 3, 0.6, 30_000, 2, "timetable"),
)
#: The families that the settings let an operator act on by itself, one that the registry protects among them.
AUTO = frozenset(each.name for each in FAMILIES if each.auto)
#: Those that it may act on after all, and that a fault may befall.
STEERABLE = frozenset(each.name for each in FAMILIES if each.auto and not each.protected)


def family(name: str) -> Family:
    """The family of that name. Raises KeyError."""
    return _BY_NAME[name]


_BY_NAME = {each.name: each for each in FAMILIES}


def write_registry(directory: Path, families: Iterable[Family] = FAMILIES) -> Registry:
    """Declare them as registry files, as a person would, and load those."""
    events = directory / "events"
    events.mkdir(parents=True)
    for each in families:
        handler = {
            "name": each.handler, "type": "task", "queue": QUEUE, "concurrency": [{"limit": each.limit}],
            "target": "joelclaw_tasks.handlers.content:validate",  # nothing of it is run
            "retries": {"max": each.max_retries, "base_s": each.base_s, "cap_s": each.cap_s},
        }  # fmt: skip
        if each.tenants > 1:
            handler["share"] = {"key": "data.tenant"}
        event = {
            "name": each.name, "description": "Of an evaluated world.", "priority": f"P{each.priority}",
            "protected": each.protected, "handlers": [handler],
        }  # fmt: skip
        (events / event_file(each.name)).write_text(json.dumps(event))
    (directory / "resources.json").write_text("{}")
    return Registry.load(directory)
