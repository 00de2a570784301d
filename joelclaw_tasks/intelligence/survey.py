"""Survey: makes the snapshot. One script reads counts, gates and controls at one moment.

Runs, dead letter and ages are read after it, up to that moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from joelclaw_tasks.core.passes import Passes, Sight
from joelclaw_tasks.core.rank import PRIORITIES
from joelclaw_tasks.core.redaction import redacted
from joelclaw_tasks.core.states import WAITING
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence import snapshot as parts
from joelclaw_tasks.intelligence.runs import ENDS, handler_now, runs_of
from joelclaw_tasks.intelligence.snapshot import Snapshot
from joelclaw_tasks.quiet import QuietHours
from joelclaw_tasks.registry import Registry

WINDOW_MS = 10 * 60_000
#: Ends of runs that are read at most: the newest ones.
_MOST_RUNS = 20_000
_MOST_PASSES, _ACTS_MOST = 50, 100
_OBSERVER, _PROGRAMS = "observer", {"observer", "registry", "expiry", ""}
_WAITING = {state.value for state in WAITING}
_ALIVE = {*_WAITING, "executing"}
_PAUSE = "pause:family/"
#: The fleet's own tasks are no families that anybody steers.
OWN_PREFIXES = ("joelclaw.", "health.")
_TEXT_MOST = 200


class Survey:
    """Takes snapshots of one fleet. `registry` None: only what is in the queue is known.

    Raises CoreUnreachable.
    """

    def __init__(self, store: Store, registry: Registry | None, quiet: QuietHours | None = None) -> None:
        self._store = store
        self._registry = registry
        self._quiet = quiet
        self._passes = Passes(store)

    def take(
        self,
        sight: Sight,
        *,
        families: Collection[str] | None = None,
        health: Sequence[parts.HealthNow] = (),
        restate: parts.RestateNow | None = None,
    ) -> Snapshot:
        """The snapshot of a moment, of these families (None: all)."""
        now = sight.taken_at
        since = max(0, now - WINDOW_MS)
        entries = self._store.history.read(since_at=since, until_at=now, verbs=ENDS, newest_first=True)
        runs = runs_of(islice(entries, _MOST_RUNS))
        acts = [_control(act) for act in sight.acts]
        controls = [_control(act) for act in sight.controls]
        news_since = _news_since(acts, now)
        known = self._families(sight, controls)
        if families is not None:
            known = {name: each for name, each in known.items() if name in families}
        handlers = [handler_now(name, found, news_since) for name, found in runs.items() if name[0] in known]
        handlers.sort(key=lambda each: (-each.failed, -each.completed, each.handler))
        groups = self._store.ask(lambda: self._store.dead.groups(parts.MOST_GROUPS))
        listed = sorted(known.values(), key=lambda f: (-f.total, -(f.oldest_age_ms or 0), f.family))
        return Snapshot(
            snapshot_id=f"p{sight.number}-{now}",
            number=sight.number,
            taken_at=now,
            window_ms=WINDOW_MS,
            totals=_totals(sight, listed),
            families=tuple(listed[: parts.MOST_FAMILIES]),
            handlers=tuple(handlers[: parts.MOST_HANDLERS]),
            gates=_gates(sight)[: parts.MOST_GATES],
            dead_groups=tuple(map(_group, groups)),
            controls=tuple(controls[-parts.MOST_CONTROLS :]),
            acts=tuple(acts[-_ACTS_MOST:]),
            passes=self._earlier(),
            drainer=_drainer(runs, listed),
            quiet_until_at=None if self._quiet is None else self._quiet.until_at(now),
            health=tuple(health),
            restate=restate,
            omitted=_omitted(
                families=len(listed) - parts.MOST_FAMILIES,
                handlers=len(handlers) - parts.MOST_HANDLERS,
                gates=len(sight.gates) - parts.MOST_GATES,
                controls=len(controls) - parts.MOST_CONTROLS,
            ),
        )

    def known(self, sight: Sight) -> frozenset[str]:
        """Every family that has jobs to run at that moment, is paused, or is in the registry."""
        listed = set(self._registry.events) if self._registry is not None else set()
        paused = {str(pause["gate"]).removeprefix(_PAUSE) for pause in sight.pauses}
        alive = {family for _, family, _, state, jobs in sight.counts if jobs and state in _ALIVE}
        return frozenset(listed | paused | alive)

    def _families(self, sight: Sight, controls: Sequence[parts.ControlNow]) -> dict[str, parts.FamilyNow]:
        known = self.known(sight)
        figures: dict[str, dict[str, Any]] = {}
        if self._registry is not None:
            for event in self._registry.events.values():
                needs = dict.fromkeys(name for handler in event.handlers for name in handler.depends_on)
                figures[event.name] = {
                    "priority": event.priority, "protected": event.protected, "depends_on": tuple(needs),
                }  # fmt: skip
        for _, family, level, state, jobs in sight.counts:
            of = figures.setdefault(family, {})
            if state in _WAITING:
                of["total"] = of.get("total", 0) + jobs
                by_priority = of.setdefault("by_priority", dict.fromkeys(PRIORITIES, 0))
                by_priority[PRIORITIES[level]] += jobs
            if state == "available":
                of["startable"] = of.get("startable", 0) + jobs
            elif state == "executing":
                of["executing"] = of.get("executing", 0) + jobs
        queues = sorted({queue for queue, *_ in sight.counts})
        ages = self._store.ask(lambda: self._store.view.oldest_ages(queues, sight.taken_at))
        holders: dict[str, Literal["person", "observer"]] = {
            each.family: "person" if each.by_person else "observer"
            for each in controls
            if each.verb == "pause" and each.family is not None
        }
        return {
            name: parts.FamilyNow(family=name, oldest_age_ms=ages.get(name), held_by=holders.get(name), **of)
            for name, of in figures.items()
            if name in known and not name.startswith(OWN_PREFIXES)
        }

    def _earlier(self) -> tuple[parts.PassDone, ...]:
        return tuple(
            parts.PassDone(
                number=int(record["number"]),
                at=int(record["at"]),
                applied=tuple(
                    (_kind(verdict["action"]), str(verdict["action"].get("family") or ""))
                    for verdict in record["verdicts"]
                    if verdict["outcome"] == "applied"
                ),
            )
            for record in self._passes.recent(_MOST_PASSES)
        )


def _kind(action: Mapping[str, Any]) -> str:
    return "probe" if action.get("probe") else str(action["kind"])


def _control(act: Mapping[str, Any]) -> parts.ControlNow:
    target = str(act["target"])
    where = str(act.get("where") or target)
    family = None
    for prefix in (_PAUSE, "family/"):
        if where.startswith(prefix):
            family = where.removeprefix(prefix)
    return parts.ControlNow(
        id=str(act["id"]),
        verb=str(act["verb"]),
        target=target,
        actor=str(act["actor"]),
        reason=str(act["reason"])[:_TEXT_MOST],
        at=int(act["at"]),
        until_at=int(act["until"]) if act.get("until") else None,
        family=family,
        by_person=_is_person(act["actor"]),
        undone_at=int(act["undone_at"]) if act.get("undone_at") else None,
        undone_by_person=_is_person(act.get("undone_by") or ""),
    )


def _is_person(actor: object) -> bool:
    return actor not in _PROGRAMS and not str(actor).startswith("registry:")


def _news_since(acts: Sequence[parts.ControlNow], now: int) -> dict[str, int]:
    """From when on runs of a family are news: the last act on a pause of it, or the end of that pause."""
    since: dict[str, int] = {}
    ends: dict[str, int | None] = {}  # of the pause that was set last; one that was replaced did not run out
    for act in acts:
        if act.family is None or act.verb not in {"pause", "resume", "drain"}:
            continue
        since[act.family] = max(since.get(act.family, 0), act.at, act.undone_at or 0)
        if act.verb != "drain":
            ends[act.family] = act.until_at
    for family, end in ends.items():
        if end is not None and end <= now:
            since[family] = max(since[family], end)
    return since


def _totals(sight: Sight, families: Sequence[parts.FamilyNow]) -> parts.Totals:
    by_priority = dict.fromkeys(PRIORITIES, 0)
    for family in families:
        for level, jobs in family.by_priority.items():
            by_priority[level] += jobs
    dead = sum(jobs for _, _, _, state, jobs in sight.counts if state == "discarded")
    ages = [family.oldest_age_ms for family in families if family.oldest_age_ms is not None]
    return parts.Totals(
        depth=sum(family.total for family in families),
        by_priority=by_priority,
        oldest_age_ms=max(ages, default=None),
        executing=sum(family.executing for family in families),
        dead=dead,
    )


def _gates(sight: Sight) -> tuple[parts.GateNow, ...]:
    return tuple(
        parts.GateNow(
            gate=name, value=value, taken=taken,
            shut=name.startswith("limit:") and taken >= int(value),
        )
        for name, value, taken in sorted(sight.gates, key=lambda each: (-each[2], each[0]))
    )  # fmt: skip


def _group(group: Mapping[str, Any]) -> parts.DeadGroup:
    return parts.DeadGroup(
        signature=str(group["signature"]),
        count=int(group["count"]),
        last_at=int(group["last_at"]),
        place=str(group["place"] or "")[:_TEXT_MOST],
        error=redacted(str(group["error"] or ""))[:_TEXT_MOST],
    )


def _drainer(
    runs: Mapping[tuple[str, str], Sequence[Any]], families: Sequence[parts.FamilyNow]
) -> parts.Drainer:
    """What is held back is not expected to move, and its failures from before are known."""
    held = {family.family for family in families if family.held_by is not None}
    ended: dict[str, int] = defaultdict(int)
    for (family, _), found in runs.items():
        for run in found:
            ended["all"] += 1
            ended["failed"] += run.failed and family not in held
    could_start = sum(each.startable for each in families if each.family not in held)
    is_down = could_start > 0 and not ended["all"] and not sum(each.executing for each in families)
    state: Literal["healthy", "degraded", "down"] = (
        "down" if is_down else "degraded" if ended["failed"] else "healthy"
    )
    return parts.Drainer(
        state=state,
        recent_dispatches=ended["all"],
        recent_failures=ended["failed"],
        throughput_per_minute=round(ended["all"] / (WINDOW_MS / 60_000), 2),
    )


def _omitted(**over: int) -> dict[str, int]:
    return {name: number for name, number in over.items() if number > 0}
