"""Observer: one pass after the other looks at the queue, has an operator propose, and applies what may be.

A pass: snapshot, shortcuts, operator, policy, record, verbs, record. The record with every proposal and its
verdict is kept before the first effect. Of two observers at once one makes the pass.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from joelclaw_tasks.core.passes import Passes, Sight
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable, HeldByPerson, JoelclawError, UnknownTarget
from joelclaw_tasks.intelligence.actions import Action, Noop, Resume, family_of
from joelclaw_tasks.intelligence.hands import ACTOR, Hands
from joelclaw_tasks.intelligence.operator import Operator, StaticOperator
from joelclaw_tasks.intelligence.policy import Limits, Outcome, Policy, Refusal, Verdict
from joelclaw_tasks.intelligence.scope import Scope
from joelclaw_tasks.intelligence.shortcut import shortcut_of
from joelclaw_tasks.intelligence.snapshot import HealthNow, RestateNow, Snapshot
from joelclaw_tasks.intelligence.survey import Survey
from joelclaw_tasks.registry import Registry

logger = logging.getLogger(__name__)

#: Beat is never quite on time: a pass may begin this share of the interval early.
_EARLY = 0.9
#: What was proposed beyond this is not even judged.
_MOST_PROPOSED = 50
_FULL = re.compile(r"batch:(\d{1,6}):")

Status = Literal["disabled", "skipped", "dry-run", "enforce"]


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass saw, and what became of each proposal.

    `shortcut` says why no operator was asked. `fallback` says why the first one's proposals are not here.
    """

    status: Status
    number: int
    operator: str
    snapshot: Snapshot | None
    verdicts: tuple[Verdict, ...] = ()
    shortcut: str | None = None
    fallback: str | None = None
    next_at: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """The record that is kept of it, as JSON-able values."""
        seen = self.snapshot
        return {
            "number": self.number,
            "at": None if seen is None else seen.taken_at,
            "status": self.status,
            "operator": self.operator,
            "shortcut": self.shortcut,
            "fallback": self.fallback,
            "snapshot_id": None if seen is None else seen.snapshot_id,
            "digest": None if seen is None else seen.digest,
            "findings": None if seen is None else seen.findings.model_dump(),
            "verdicts": [verdict.to_wire() for verdict in self.verdicts],
            "next_at": self.next_at,
        }


class Observer:
    """Observes one fleet. `operator` is asked first; the fixed rules are there when it cannot answer.

    `hands` None: it can only look. Raises CoreUnreachable.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry | None,
        scope: Scope,
        *,
        hands: Hands | None = None,
        operator: Operator | None = None,
        limits: Limits | None = None,
        health: Callable[[], Sequence[HealthNow]] = tuple,
        restate: Callable[[], RestateNow | None] = lambda: None,
    ) -> None:
        self._passes = Passes(store)
        self._survey = Survey(store, registry, scope.quiet)
        self._scope = scope
        self._hands = hands
        self._rules = StaticOperator(night=scope.night)
        self._operator = operator or self._rules
        self._limits = limits or Limits()
        self._health = health
        self._restate = restate

    def look(self) -> Pass:
        """What a pass would do now, over all families; changes nothing at all, in any mode."""
        sight = self._passes.look()
        snapshot = self._survey.take(sight, health=self._health(), restate=self._restate())
        return self._judged(snapshot, "dry-run")

    def make_pass(self) -> Pass:
        """One pass, unless another one began within the interval."""
        if self._scope.mode == "off":
            return Pass("disabled", 0, self._operator.name, None, shortcut="disabled")
        sight = self._passes.look(int(self._scope.interval_ms * _EARLY))
        if not sight.began:
            return _skipped(sight, self._scope, self._operator.name)
        snapshot = self._survey.take(
            sight, families=self._scope.observed, health=self._health(), restate=self._restate()
        )
        status: Status = "enforce" if self._scope.mode == "enforce" and self._hands is not None else "dry-run"
        done = self._judged(snapshot, status)
        if any(not isinstance(verdict.action, Noop) for verdict in done.verdicts):
            self._passes.record(done.number, snapshot.taken_at, done.to_wire())
            if self._apply(done):
                self._passes.record(done.number, snapshot.taken_at, done.to_wire())
        return done

    def _judged(self, snapshot: Snapshot, status: Status) -> Pass:
        shortcut = shortcut_of(status, snapshot)
        word = None if shortcut is None else shortcut.reason
        fallback = None
        operator: Operator = self._operator
        proposed: list[Action] = []
        if shortcut is None:
            try:
                proposed = list(operator.propose(snapshot))[:_MOST_PROPOSED]
            except Exception as error:  # noqa: BLE001  # whatever a model does, the queue is operated
                logger.warning("the operator %s failed: %s", operator.name, error)
                fallback, operator = f"{type(error).__name__}: {error}"[:200], self._rules
                proposed = list(operator.propose(snapshot))
        elif shortcut.rules:
            operator = self._rules
            proposed = list(operator.propose(snapshot))
        full = _full_batches(snapshot)
        about = {family_of(action) for action in full}
        proposed = [*full, *(action for action in proposed if family_of(action) not in about)]
        policy = Policy(replace(self._scope, mode=status), self._limits)
        verdicts = policy.judge(snapshot, proposed or [Noop(reason=_why(word))])
        return Pass(
            status,
            snapshot.number,
            operator.name,
            snapshot,
            tuple(verdicts),
            word,
            fallback,
            snapshot.taken_at + self._scope.interval_ms,
        )

    def _apply(self, done: Pass) -> bool:
        """Carry out what is allowed, one after the other; whether there was anything."""
        allowed = [
            verdict
            for verdict in done.verdicts
            if verdict.outcome is Outcome.ALLOWED and not isinstance(verdict.action, Noop)
        ]
        known = self._survey.known(self._passes.look()) if allowed else frozenset()
        for verdict in allowed:
            family = family_of(verdict.action)
            if not self._passes.is_newest(done.number):
                verdict.outcome, verdict.reason = Outcome.REFUSED, Refusal.SUPERSEDED
            elif family is not None and family not in known:
                verdict.outcome, verdict.reason = Outcome.REFUSED, Refusal.FAMILY_GONE
            else:
                self._carry_out(verdict)
        return bool(allowed)

    def _carry_out(self, verdict: Verdict) -> None:
        assert self._hands is not None
        try:
            verdict.control, verdict.detail = self._hands.carry_out(verdict.action)
            verdict.outcome = Outcome.APPLIED
        except CoreUnreachable:
            raise
        except JoelclawError as error:
            reasons = {HeldByPerson: Refusal.HELD_BY_PERSON, UnknownTarget: Refusal.FAMILY_GONE}
            verdict.outcome = Outcome.REFUSED
            verdict.reason = reasons.get(type(error), Refusal.FAILED)
            verdict.detail = str(error)[:200]


def _skipped(sight: Sight, scope: Scope, operator: str) -> Pass:
    next_at = (sight.begun_at or sight.taken_at) + scope.interval_ms
    return Pass("skipped", sight.number, operator, None, shortcut="cadence", next_at=next_at)


def _why(shortcut: str | None) -> str:
    return f"nothing to do: {shortcut or 'nothing is wrong'}"


def _full_batches(snapshot: Snapshot) -> Iterable[Action]:
    """Batches of the observer that have as many jobs as they were to gather."""
    full: list[Action] = []
    for control in snapshot.controls:
        family = control.family and snapshot.family(control.family)
        size = _FULL.match(control.reason) if control.verb == "pause" and control.actor == ACTOR else None
        if family and size and family.startable >= int(size[1]):
            full.append(Resume(family=family.family, reason=f"batch: {family.startable} have gathered"))
    return full
