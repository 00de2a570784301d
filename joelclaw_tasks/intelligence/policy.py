"""Policy: judges what an operator proposes. Deterministic; it clamps or refuses, each with a named reason.

Whoever proposes, a model or the rules, passes through here. What it lets through, the core checks once
more: a person's control holds against the observer even when it was set after the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from joelclaw_tasks.intelligence.actions import (
    LONGEST_MS,
    SHORTEST_MS,
    Action,
    Doing,
    Escalate,
    Hold,
    Noop,
    Resume,
    Throttle,
    family_of,
)
from joelclaw_tasks.intelligence.scope import Scope
from joelclaw_tasks.intelligence.snapshot import ControlNow, Snapshot


class Outcome(StrEnum):
    """What became of a proposal."""

    ALLOWED = "allowed"  # to be applied next
    APPLIED = "applied"
    DRY_RUN = "dry_run"  # would have been applied in enforce
    REFUSED = "refused"


class Refusal(StrEnum):
    """Why a proposal was not applied."""

    MODE_OFF = "mode_off"
    TOO_MANY_ACTIONS = "too_many_actions"
    UNKNOWN_FAMILY = "unknown_family"  # not in the snapshot
    NOT_OBSERVED = "not_observed"
    PROTECTED = "protected"
    NOT_AUTO = "not_auto"
    HELD_BY_PERSON = "held_by_person"  # a person's control of it is in force
    DECIDED_BY_PERSON = "decided_by_person"  # a person took the observer's act back within the hour
    CONFLICT = "conflict"  # an earlier proposal of this pass is about the same family
    FLIP = "flip"  # it would turn around what one of the last passes did
    NOT_PAUSED = "not_paused"
    NOTHING_TO_DO = "nothing_to_do"  # it is so already, or would loosen what somebody else has set
    UNKNOWN_GATE = "unknown_gate"
    TOO_MANY_PAUSED = "too_many_paused"
    TOLD_ALREADY = "told_already"
    FAMILY_GONE = "family_gone"  # vanished after the snapshot
    SUPERSEDED = "superseded"  # a later pass has begun
    FAILED = "failed"  # the core refused it


@dataclass(frozen=True, slots=True)
class Limits:
    """How far the observer may go, whatever it is told."""

    most_actions: int = 8
    paused_share: float = 0.5  # of all families in the snapshot; one may always be paused
    flip_passes: int = 2
    decided_ms: int = 3_600_000
    told_ms: int = 86_400_000


@dataclass(slots=True)
class Verdict:
    """One proposal and what became of it. `clamped` names what was changed in it; `control` its act."""

    action: Action
    outcome: Outcome
    reason: Refusal | None = None
    clamped: tuple[str, ...] = ()
    control: str | None = None
    detail: str = ""

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "action": self.action.model_dump(exclude_none=True),
            "outcome": self.outcome.value,
            "reason": None if self.reason is None else self.reason.value,
            "clamped": list(self.clamped),
            "control": self.control,
            "detail": self.detail,
        }


@dataclass(slots=True)
class Policy:
    """Judges the proposals of one pass at a time."""

    scope: Scope
    limits: Limits = field(default_factory=Limits)

    def judge(self, snapshot: Snapshot, proposed: Iterable[Action]) -> list[Verdict]:
        """A verdict for each proposal, in their order: allowed (dry_run unless enforce), or refused."""
        return _Bench(self.scope, self.limits, snapshot).judge(proposed)


class _Bench:
    def __init__(self, scope: Scope, limits: Limits, snapshot: Snapshot) -> None:
        self._scope = scope
        self._limits = limits
        self._snapshot = snapshot
        self._taken: set[tuple[bool, str | None]] = set()  # (an escalation?, family)
        self._paused = {each.family for each in snapshot.families if each.held_by is not None} | {
            each.family for each in snapshot.controls if each.verb == "pause" and each.family is not None
        }
        self._allowed = 0

    def judge(self, proposed: Iterable[Action]) -> list[Verdict]:
        return [self._verdict(action) for action in proposed]

    def _verdict(self, action: Action) -> Verdict:
        if isinstance(action, Noop):
            return Verdict(action, Outcome.ALLOWED)
        refusal = self._refusal(action)
        if refusal is not None:
            return Verdict(action, Outcome.REFUSED, refusal)
        action, clamped = _clamp(action)
        self._allowed += 1
        name = family_of(action)
        self._taken.add((isinstance(action, Escalate), name))
        if isinstance(action, Hold):
            self._paused.add(action.family)
        elif isinstance(action, Resume) and not action.probe:
            self._paused.discard(action.family)
        outcome = Outcome.ALLOWED if self._scope.mode == "enforce" else Outcome.DRY_RUN
        return Verdict(action, outcome, clamped=clamped)

    def _refusal(self, action: Doing | Escalate) -> Refusal | None:
        if self._scope.mode == "off":
            return Refusal.MODE_OFF
        if self._allowed >= self._limits.most_actions:
            return Refusal.TOO_MANY_ACTIONS
        if isinstance(action, Escalate):
            return self._refuse_telling(action)
        family = self._snapshot.family(action.family)
        if family is None:
            return Refusal.UNKNOWN_FAMILY
        if not _covers(self._scope.observed, action.family):
            return Refusal.NOT_OBSERVED
        if family.protected:
            return Refusal.PROTECTED
        if not _covers(self._scope.auto, action.family):
            return Refusal.NOT_AUTO
        if any(each.by_person for each in self._controls_about(action)):
            return Refusal.HELD_BY_PERSON
        if (False, action.family) in self._taken:
            return Refusal.CONFLICT
        if self._was_decided(action):
            return Refusal.DECIDED_BY_PERSON
        if self._is_flip(action):
            return Refusal.FLIP
        return self._refuse_kind(action)

    def _refuse_kind(self, action: Doing) -> Refusal | None:
        name = action.family
        hold = self._snapshot.hold_of(name)
        if isinstance(action, Resume):
            return None if hold is not None else Refusal.NOT_PAUSED
        if isinstance(action, Hold):
            until = self._snapshot.taken_at + _bounded(action.ttl_ms)
            if hold is not None and (hold.until_at is None or hold.until_at >= until):
                return Refusal.NOTHING_TO_DO
            most = max(1, int(len(self._snapshot.families) * self._limits.paused_share))
            if name not in self._paused and len(self._paused) >= most:
                return Refusal.TOO_MANY_PAUSED
        if isinstance(action, Throttle):
            return self._refuse_throttle(action)
        if action.kind == "shed" and not self._total(name):
            return Refusal.NOTHING_TO_DO
        return None

    def _refuse_throttle(self, action: Throttle) -> Refusal | None:
        known = {each.gate: each.value for each in self._snapshot.gates}
        if action.gate not in known or not self._is_gate_of(action):
            return Refusal.UNKNOWN_GATE
        is_rate = action.gate.startswith("rate:")
        if is_rate is (action.period_ms is None):
            return Refusal.UNKNOWN_GATE  # a limit has no period, and a rate has one
        if is_rate:
            most, period_ms, _ = map(int, known[action.gate].split(" "))
            assert action.period_ms is not None
            return Refusal.NOTHING_TO_DO if action.most / action.period_ms >= most / period_ms else None
        return Refusal.NOTHING_TO_DO if action.most >= int(known[action.gate]) else None

    def _is_gate_of(self, action: Throttle) -> bool:
        """Only a gate of a handler of the family: what others pass too is not the family's to throttle."""
        name = action.gate.partition("/")[2].partition("=")[0].partition("#")[0]
        handlers = {each.handler for each in self._snapshot.handlers_of(action.family)}
        return name in handlers or name == action.family

    def _refuse_telling(self, action: Escalate) -> Refusal | None:
        if action.family is not None and self._snapshot.family(action.family) is None:
            return Refusal.UNKNOWN_FAMILY
        if (True, action.family) in self._taken:
            return Refusal.CONFLICT
        told = ("escalate", action.family or "")
        if any(told in each.applied and self._is_fresh(each.at) for each in self._snapshot.passes):
            return Refusal.TOLD_ALREADY
        return None

    def _is_fresh(self, at: int) -> bool:
        return self._snapshot.taken_at - at < self._limits.told_ms

    def _controls_about(self, action: Doing) -> Sequence[ControlNow]:
        """What is in force for the family, its handlers or the gate: a person's control of any of it wins."""
        name = action.family
        handlers = {each.handler for each in self._snapshot.handlers_of(name)}
        names = {f"{kind}/{each}" for kind in ("handler", "key") for each in {*handlers, name}}
        gate = action.gate if isinstance(action, Throttle) else None
        return [
            each
            for each in self._snapshot.controls
            if each.family == name
            or each.target == gate
            or each.target.partition(":")[2].partition("=")[0].partition("#")[0] in names
        ]

    def _was_decided(self, action: Doing) -> bool:
        """Whether a person took such an act of the observer back lately, or lifted its pause."""
        now = self._snapshot.taken_at
        for act in self._snapshot.acts:
            about = act.target == action.gate if isinstance(action, Throttle) else act.family == action.family
            if not about:
                continue
            undone = act.undone_by_person and act.actor == "observer"
            lifted = act.by_person and act.verb == "resume" and isinstance(action, Hold)
            at = act.undone_at if undone else act.at if lifted else None
            if at is None or now - at >= self._limits.decided_ms:
                continue
            if lifted or isinstance(action, Throttle) or act.verb == _VERB_OF[action.kind]:
                return True
        return False

    def _is_flip(self, action: Doing) -> bool:
        """Whether one of the last passes did the contrary; another value for the same is that as well."""
        if isinstance(action, Resume):
            contrary = "probe" if action.probe else "pause"  # with a probe the pause stays
        else:
            contrary = "resume" if isinstance(action, Hold) else action.kind
        return any(
            self._snapshot.number - each.number <= self._limits.flip_passes
            and (contrary, action.family) in each.applied
            for each in self._snapshot.passes
        )

    def _total(self, name: str) -> int:
        family = self._snapshot.family(name)
        return 0 if family is None else family.total


_VERB_OF = {
    "pause": "pause", "batch": "pause", "resume": "resume", "reprioritize": "priority", "shed": "shed",
}  # fmt: skip


def _covers(names: frozenset[str] | None, family: str) -> bool:
    return names is None or family in names


def _bounded(ttl_ms: int) -> int:
    return min(LONGEST_MS, max(SHORTEST_MS, ttl_ms))


def _clamp(action: Doing | Escalate) -> tuple[Doing | Escalate, tuple[str, ...]]:
    if isinstance(action, Resume | Escalate) or action.ttl_ms == _bounded(action.ttl_ms):
        return action, ()
    bounded = _bounded(action.ttl_ms)
    return action.model_copy(update={"ttl_ms": bounded}), (f"ttl_ms {action.ttl_ms} to {bounded}",)
