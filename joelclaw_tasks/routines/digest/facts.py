"""Facts: what a window adds up to, from the transitions stream and the dead letter. Reads only."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import State, Verb
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.diagnosis.exhibits import arguments_of
from joelclaw_tasks.intelligence.guard import compact, plain_text
from joelclaw_tasks.routines.digest.window import Window
from joelclaw_tasks.telemetry.stats import stats

#: So many families, failures, waits, acts and payloads are told at most.
MOST_FAMILIES, MOST_FAILURES, MOST_WAITS, MOST_ACTS, MOST_PAYLOADS = 12, 7, 3, 10, 3
_PAYLOAD_MOST_BYTES = 400
_OWN = ("joelclaw.", "health.", "celery.")


@dataclass(frozen=True, slots=True)
class Facts:
    """One window. Times are epoch milliseconds; everything is JSON-able and holds no secret.

    `complete_from`: what was before it has left the stream (None: nothing has). `first_seen`: families that
    no earlier digest knows. `failures`: groups of the dead letter that failed in the window. `acts`: what
    people and the observer did. `open`: what is paused now.
    """

    start_at: int
    end_at: int
    complete_from: int | None
    jobs: int
    completed: int
    failed: int
    retried: int
    turned_away: int
    wait_p50_ms: float | None
    wait_p95_ms: float | None
    families: list[dict[str, Any]] = field(default_factory=list)
    more_families: int = 0
    first_seen: list[str] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    longest_waits: list[dict[str, Any]] = field(default_factory=list)
    acts: list[dict[str, Any]] = field(default_factory=list)
    payloads: list[dict[str, Any]] = field(default_factory=list)
    open: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened at all."""
        return not (
            self.jobs or self.completed or self.failed or self.retried or self.turned_away or self.acts
        )

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def read_facts(store: Store, window: Window, known_families: set[str]) -> Facts:
    """What happened in a window. Raises CoreUnreachable."""
    notes = _Notes()
    entries = store.history.read(since_at=window.start_at, until_at=window.end_at - 1)
    found = stats(notes.watch(entries), slack_ms=(0, 0, 0, 0), limit=1_000)
    extent = store.history.extent()
    is_cut = extent.is_full and extent.first_at is not None and extent.first_at > window.start_at
    families = [each for each in found["event_families"] if not each["name"].startswith(_OWN)]
    seen = sorted(notes.families)
    dispatches, waits = found["dispatches"], found["queue_latency_ms"]
    return Facts(
        start_at=window.start_at,
        end_at=window.end_at,
        complete_from=extent.first_at if is_cut else None,
        jobs=notes.jobs,
        completed=notes.verbs[Verb.COMPLETE],
        failed=notes.verbs[Verb.DISCARD],
        retried=notes.verbs[Verb.RETRY],
        turned_away=sum(found["admissions"]["turned_away"].values()),
        wait_p50_ms=waits["p50"] if dispatches["started"] else None,
        wait_p95_ms=waits["p95"] if dispatches["started"] else None,
        families=families[:MOST_FAMILIES],
        more_families=max(0, len(families) - MOST_FAMILIES),
        first_seen=[name for name in seen if name not in known_families][:MOST_FAMILIES],
        failures=_failures(store, window, notes.reasons),
        longest_waits=[
            {"family": family, "job": job, "wait_ms": wait_ms} for wait_ms, job, family in notes.longest()
        ],
        acts=list(notes.acts),
        payloads=_payloads(store, window),
        open=_open(store),
    )


class _Notes:
    """What is picked up while the entries of a window pass by."""

    def __init__(self) -> None:
        self.jobs = 0
        self.verbs: Counter[str] = Counter()
        self.families: set[str] = set()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.acts: deque[dict[str, Any]] = deque(maxlen=MOST_ACTS)
        self._waits: list[tuple[int, str, str]] = []

    def watch(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass them on."""
        for entry in entries:
            self._note(entry)
            yield entry

    def longest(self) -> list[tuple[int, str, str]]:
        """(wait_ms, job, family), the longest first."""
        return sorted(self._waits, reverse=True)

    def _note(self, entry: Entry) -> None:
        if not entry.job:
            if entry.actor and entry.actor not in ("registry", "expiry"):
                self.acts.append(
                    {
                        "at": entry.at,
                        "actor": plain_text(entry.actor, 60),
                        "verb": entry.verb,
                        "target": _gate(entry.text("gate") or entry.text("target")),
                        "reason": plain_text(entry.text("reason"), 120),
                    }
                )
            return
        if entry.family.startswith(_OWN) or not entry.to_state:
            return
        if entry.verb == Verb.ADMIT and entry.to_state != State.DISCARDED:
            self.jobs += 1
            self.families.add(entry.family)
        self.verbs[Verb.DISCARD if entry.to_state == State.DISCARDED else entry.verb] += 1
        if entry.to_state == State.DISCARDED:
            self.reasons[entry.family, plain_text(entry.text("reason"), 160)] += 1
        if entry.verb == Verb.CLAIM and entry.wait_ms:
            heapq.heappush(self._waits, (entry.wait_ms, entry.job, entry.family))
            if len(self._waits) > MOST_WAITS:
                heapq.heappop(self._waits)


def _gate(name: str) -> str:
    return plain_text(name.partition(":")[2] or name, 80)


def _failures(store: Store, window: Window, reasons: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    groups = {
        plain_text(str(group["error"]), 160): group for group in store.ask(lambda: store.dead.groups(1_000))
    }
    found = []
    for (family, error), count in reasons.most_common(MOST_FAILURES):
        group = groups.get(error)
        is_new = group is not None and window.start_at <= group["first_at"] < window.end_at
        found.append(
            {
                "family": family, "error": error, "count": count, "is_new": is_new,
                "signature": group["signature"] if group else None,
            }
        )  # fmt: skip
    return found


def _payloads(store: Store, window: Window) -> list[dict[str, Any]]:
    """Of what failed in the window, the newest: what was done leaves no payload behind."""
    newest = [job for job in store.ask(lambda: store.dead.newest(50)) if _is_within(job, window)][
        :MOST_PAYLOADS
    ]
    found = []
    for job in newest:
        data = arguments_of(store.inspect(job["id"]).get("payload"))
        text = compact(data, most_bytes=_PAYLOAD_MOST_BYTES)
        found.append({"family": job["family"], "job": job["id"], "payload": text})
    return found


def _is_within(job: dict[str, Any], window: Window) -> bool:
    at = job.get("discarded_at")
    return at is not None and window.start_at <= at < window.end_at


def _open(store: Store) -> list[dict[str, Any]]:
    return [
        {
            "gate": _gate(str(each.get("gate", ""))),
            "reason": plain_text(str(each.get("reason", "")), 120),
        }
        for each in store.snapshot()["pauses"]
    ][:MOST_ACTS]
