"""Operator: whoever reads a snapshot and proposes actions. One is here that needs no model.

The static operator is a set of fixed rules: a circuit breaker with a half-open probe, patience with
servers that want fewer requests, no tries while what a family needs is down, less room for what can wait
while urgent work is late, and rest at night.
It remembers nothing: everything that it goes by is in the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from joelclaw_tasks.intelligence.actions import (
    LONGEST_MS,
    SHORTEST_MS,
    Action,
    Escalate,
    Pause,
    Resume,
    Throttle,
)
from joelclaw_tasks.intelligence.snapshot import ControlNow, FamilyNow, HandlerNow, Snapshot

#: How the reasons of the rules begin. What begins otherwise was somebody else's idea.
CIRCUIT, RATE_LIMIT, NIGHT, BACKLOG, BATCH, HEALTH = (
    "circuit", "rate limit", "night", "backlog", "batch", "health",
)  # fmt: skip
#: These pauses end at their own time: nothing is to be tried before.
_TRIED = f"{CIRCUIT}: a try has failed"
_ENDS_BY_ITSELF = (f"{RATE_LIMIT}:", f"{NIGHT}:", f"{BATCH}:")


class Operator(Protocol):
    """Proposes actions for a snapshot. What it raises is noted, and another one is asked instead."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def propose(self, snapshot: Snapshot) -> Sequence[Action]:
        """What to do now; empty when nothing is to be done."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """The figures of the static operator. Times in milliseconds."""

    fails_at_least: int = 5  # of the last 20 runs
    failed_jobs: int = 3  # so many different ones: a payload that nobody can take fails again and again
    unwell: float = 0.75  # of the jobs since the first of them failed
    again_fails: int = 2  # are enough when it was paused for its failures not long ago
    again_ms: int = 1_800_000
    first_pause_ms: int = 300_000
    longest_pause_ms: int = 3_600_000
    settle_ms: int = 60_000  # a pause is left alone for so long, or for a fifth of its length
    longest_settle_ms: int = 180_000
    most_tries: int = 3  # in a row must go well: one for each outage of not long ago
    probe_ms: int = 300_000  # for so long the probe has its way through the pause
    first_backoff_ms: int = 60_000  # when a server says nothing of when to come back
    longest_backoff_ms: int = 900_000
    late_jobs: int = 25  # so many urgent jobs, of which one waits for
    late_ms: int = 60_000
    throttle_ms: int = 900_000
    most_throttles: int = 2  # a pass


@dataclass(frozen=True, slots=True)
class StaticOperator:
    """The rules. `night` families rest in the quiet hours (None: every one)."""

    rules: Rules = field(default_factory=Rules)
    night: frozenset[str] | None = frozenset()
    name: str = "static"

    def propose(self, snapshot: Snapshot) -> Sequence[Action]:
        """What the rules say, family by family."""
        found: dict[str, Action] = {}
        for family in snapshot.families:
            action = self._for_family(snapshot, family)
            if action is not None:
                found[family.family] = action
        for throttle in self._throttles(snapshot):
            found.setdefault(throttle.family, throttle)
        return list(found.values())

    def _for_family(self, snapshot: Snapshot, family: FamilyNow) -> Action | None:
        hold = snapshot.hold_of(family.family)
        if hold is not None:
            return None if hold.by_person else self._held(snapshot, family, hold)
        return (
            self._night(snapshot, family)
            or self._health(snapshot, family)
            or self._rate_limited(snapshot, family)
            or self._circuit(snapshot, family)
        )

    # -- what runs ----------------------------------------------------------------------------

    def _night(self, snapshot: Snapshot, family: FamilyNow) -> Action | None:
        until = snapshot.quiet_until_at
        if until is None or not family.total or (self.night is not None and family.family not in self.night):
            return None
        if until - snapshot.taken_at < SHORTEST_MS:
            return None
        return Pause(
            family=family.family,
            reason=f"{NIGHT}: it rests until the quiet hours are over",
            ttl_ms=until - snapshot.taken_at,
        )

    def _health(self, snapshot: Snapshot, family: FamilyNow) -> Pause | None:
        """While a check is down that it depends on, every run would fail. The pulse has told of that."""
        down = snapshot.needs_down(family)
        if down is None or family.protected or not (family.total or family.executing):
            return None
        return Pause(
            family=family.family,
            reason=f"{HEALTH}: {down.name} {down.detail}",
            ttl_ms=self.rules.first_pause_ms,
        )

    def _rate_limited(self, snapshot: Snapshot, family: FamilyNow) -> Action | None:
        limited = [each for each in snapshot.handlers_of(family.family) if each.rate_limited]
        if not limited:
            return None
        now = snapshot.taken_at
        asked = max((each.retry_at or 0 for each in limited), default=0)
        earlier = sum(
            act.family == family.family and act.verb == "pause" and act.reason.startswith(RATE_LIMIT)
            for act in snapshot.acts
            if now - act.at < LONGEST_MS // 24
        )
        backoff_ms = min(self.rules.longest_backoff_ms, self.rules.first_backoff_ms << min(earlier, 10))
        if asked > now:
            said = f"{RATE_LIMIT}: a server asks to wait {-(-(asked - now) // 1000)} s more"
            # It has asked for too little before: all that waited went, and failed.
            ttl_ms = max(asked - now, backoff_ms) if earlier else asked - now
            return Pause(family=family.family, reason=said, ttl_ms=_bounded(ttl_ms))
        if asked or now - max(each.rate_limited_at or 0 for each in limited) > self.rules.first_backoff_ms:
            return None  # the time that it asked for is over, or it was a while ago
        said = f"{RATE_LIMIT}: a server wants fewer requests and does not say until when"
        return Pause(family=family.family, reason=said, ttl_ms=backoff_ms)

    def _circuit(self, snapshot: Snapshot, family: FamilyNow) -> Action | None:
        before = self._outages(snapshot, family.family)
        broken = [each for each in snapshot.handlers_of(family.family) if self._is_broken(each, before > 0)]
        if not broken:
            return None
        worst = max(broken, key=lambda each: (each.recent_failed, each.handler))
        ran = worst.recent_failed + worst.recent_completed
        said = f"{worst.recent_failed} of the last {ran} runs of {worst.handler} failed: {worst.last_error}"
        if family.protected:
            return Escalate(family=family.family, severity="error", message=f"{said} (protected: not paused)")
        # Longer each time: it must not be over before the tries that are wanted have gone well.
        ttl_ms = min(self.rules.longest_pause_ms, self.rules.first_pause_ms << min(before, 10))
        return Pause(family=family.family, reason=f"{CIRCUIT}: {said}", ttl_ms=ttl_ms)

    def _is_broken(self, handler: HandlerNow, again: bool) -> bool:
        """Whether too many runs failed, of too many jobs, since when too few went well. `again`: of fewer."""
        rules = self.rules
        least, jobs = (rules.again_fails,) * 2 if again else (rules.fails_at_least, rules.failed_jobs)
        if handler.recent_failed < least or handler.recent_failed_jobs < jobs:
            return False
        # Jobs, for each failure of one is tried again. And since then: what went well before hides nothing.
        known = handler.recent_failed_jobs + handler.recent_well_since
        return handler.recent_failed_jobs >= known * rules.unwell

    def _outages(self, snapshot: Snapshot, family: str) -> int:
        """How often it was paused for its failures not long ago: more than once, its dependency flaps."""
        return sum(
            act.verb == "pause" and act.family == family and act.reason.startswith(f"{CIRCUIT}:")
            and not act.reason.startswith(_TRIED)
            for act in snapshot.acts
            if snapshot.taken_at - act.at < self.rules.again_ms
        )  # fmt: skip

    # -- what is paused -----------------------------------------------------------------------

    def _held(self, snapshot: Snapshot, family: FamilyNow, hold: ControlNow) -> Action | None:
        """Half-open: after a while one job is let through. When it does well all go, else the pause grows."""
        now = snapshot.taken_at
        if hold.reason.startswith(_ENDS_BY_ITSELF):
            return None
        if snapshot.needs_down(family) is not None:
            is_ending = (hold.until_at or now) - now < self.rules.first_pause_ms // 2
            return self._health(snapshot, family) if is_ending else None
        ttl_ms = (hold.until_at or now + self.rules.first_pause_ms) - hold.at
        settle_ms = min(self.rules.longest_settle_ms, max(self.rules.settle_ms, ttl_ms // 5))
        probes = self._probes_of(snapshot, hold)
        if probes:
            handlers = snapshot.handlers_of(family.family)
            failed = sum(each.recent_failed for each in handlers)
            if failed:
                longer_ms = min(self.rules.longest_pause_ms, 2 * ttl_ms)
                error = next((each.last_error for each in handlers if each.recent_failed), "")
                return Pause(
                    family=family.family,
                    reason=f"{_TRIED} as well: {error}",
                    ttl_ms=_bounded(longer_ms),
                )
            wanted = min(self.rules.most_tries, self._outages(snapshot, family.family))
            went_well = sum(each.recent_completed for each in handlers) > 0
            if went_well and len(probes) >= wanted:
                return Resume(family=family.family, reason=f"{CIRCUIT}: {_tries(len(probes))} went well")
            if now - probes[-1].at < (self.rules.longest_settle_ms if went_well else self.rules.probe_ms):
                return None  # it still runs, or it went well and may have been luck
        if not family.startable or now - hold.at < settle_ms:
            return None
        return Resume(family=family.family, reason=f"{CIRCUIT}: one job to try", probe=True)

    @staticmethod
    def _probes_of(snapshot: Snapshot, hold: ControlNow) -> list[ControlNow]:
        """The probes since the pause. One that fails begins a new pause, so all but the last went well."""
        return [
            act
            for act in snapshot.acts
            if act.verb == "drain" and act.target == hold.target and act.at >= hold.at
        ]

    # -- what is late -------------------------------------------------------------------------

    def _throttles(self, snapshot: Snapshot) -> Iterator[Throttle]:
        late = [
            family
            for family in snapshot.families
            if family.held_by is None
            and sum(family.by_priority.get(level, 0) for level in ("P0", "P1")) >= self.rules.late_jobs
            and (family.oldest_age_ms or 0) >= self.rules.late_ms
        ]
        if not late:
            return
        set_already = {each.target for each in snapshot.controls}
        given = 0
        for family in sorted(snapshot.families, key=lambda each: (-each.priority, each.family)):
            if family.priority < 2 or not family.executing or family in late or family.protected:
                continue
            for handler in snapshot.handlers_of(family.family):
                name = f"limit:handler/{handler.handler}"
                gate = next((each for each in snapshot.gates if each.gate == name), None)
                if gate is None or name in set_already or int(gate.value) < 2 or not gate.taken:
                    continue
                given += 1
                if given > self.rules.most_throttles:
                    return
                yield Throttle(
                    family=family.family,
                    gate=name,
                    most=int(gate.value) // 2,
                    reason=f"{BACKLOG}: {late[0].family} is late, and this can wait",
                    ttl_ms=self.rules.throttle_ms,
                )
                break  # one action a family


def _tries(number: int) -> str:
    return "a try" if number == 1 else f"{number} tries in a row"


def _bounded(ttl_ms: int) -> int:
    return min(LONGEST_MS, max(SHORTEST_MS, ttl_ms))
