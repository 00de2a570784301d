"""Checker: reads a history and names everything in it that must not have happened. Pure functions.

What the tasks themselves wrote is believed; the transitions stream is believed of what it alone can know:
what was accepted, and when a lease began and ended. Tolerances are named here, and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from chaos.history import Attempt, History, Line
from chaos.order import due_jobs_come, killers_are_stopped, ranks_decide, refusals_have_reasons
from joelclaw_tasks.core.states import FINAL, State
from joelclaw_tasks.core.violation import Violation

#: From the answer to a pause (or a lower limit) to the last start that it did not stop: the promise of I5.
PAUSE_WITHIN_S = 0.1
#: By how much starts may be closer together than their rate: between a claim and its start lies a worker.
RATE_JITTER_S = 0.1
#: Redis counts whole milliseconds, and a script has the time at which it began.
CLOCKS_APART_S = 0.02
#: A beat that was cut off tries again within this.
TICKS_APART_S = 7.0

_FINAL = {state.value for state in FINAL}


def check(history: History) -> list[Violation]:
    """Every violation, in the order of the invariants."""
    checks: tuple[Callable[[History], Iterator[Violation]], ...] = (
        nothing_is_lost,
        failures_are_buried,
        ticks_go_on,
        finishes_count_once,
        starts_are_accounted_for,
        killers_are_stopped,
        leases_hold,
        nothing_starts_early,
        due_jobs_come,
        ranks_decide,
        limits_hold,
        rates_hold,
        pauses_hold,
        counts_agree,
        nothing_is_left,
        refusals_have_reasons,
        controls_are_recorded,
        faults_saw_nothing,
    )
    return [violation for each in checks for violation in each(history)]


def nothing_is_lost(history: History) -> Iterator[Violation]:
    """I1: what was accepted ran to its end, or is in the dead letter for a reason that we know of."""
    fails = set(history.run.get("fails", ()))
    for job in sorted(history.accepted | history.tales.keys()):
        tale = history.tales.get(job)
        if tale is None:
            yield Violation("I1", "LOST", job, "it was accepted, and the stream does not know it")
        elif tale.state not in _FINAL:
            yield Violation("I1", "STRANDED", job, f"it is still {tale.state} at the end")
        elif tale.state == State.DISCARDED:
            deaths = history.interruptions(job)
            if tale.moves[-1].get("family") not in fails and deaths < history.run.get("max_kills", 3):
                yield Violation("I1", "DISCARDED", job, f"dead letter after {deaths} injected death(s)")
        elif tale.state == State.CANCELLED:
            yield Violation("I1", "CANCELLED", job, "nobody cancelled it")
        elif not any(attempt.ended_at is not None for attempt in history.attempts_of.get(job, ())):
            yield Violation("I1", "LOST", job, "it counts as completed, and its task never came to its end")


def failures_are_buried(history: History) -> Iterator[Violation]:
    """I1: what can only fail is in the dead letter, and was never taken for done."""
    fails = set(history.run.get("fails", ()))
    for job, tale in history.tales.items():
        if tale.moves[-1].get("family") in fails and tale.state in _FINAL - {State.DISCARDED}:
            yield Violation("I1", "NOT_BURIED", job, f"it can only fail, and is {tale.state}")


def ticks_go_on(history: History) -> Iterator[Violation]:
    """I1: one beat or the other fires each second, but for the time in which nobody reaches Redis."""
    fired = [history.monotonic(move) for move in history.moves if move["verb"] == "admit" and _is_tick(move)]
    ends = [line["at"] for line in history.asked[-1:]]
    for before, after in pairwise(sorted(fired + ends) if fired else []):
        faults = (
            (max(before, each.at), min(after, each.until)) for each in history.faults if each.everywhere
        )
        gap_s = after - before - sum(max(0.0, until - since) for since, until in faults)
        if gap_s > TICKS_APART_S:
            yield Violation("I1", "TICKS_MISSING", "tick", f"none for {gap_s:.1f} s, after {before:.3f}")


def _is_tick(move: Line) -> bool:
    return move.get("family") == "tick" and bool(move.get("to"))


def finishes_count_once(history: History) -> Iterator[Violation]:
    """I2: one effective finish for each job, told by the attempt that it belongs to, after its end."""
    for job, tale in history.tales.items():
        finishes = sum(move.get("from") == "executing" and move["to"] in _FINAL for move in tale.moves)
        if finishes > 1:
            yield Violation("I2", "FINISHED_TWICE", job, f"{finishes} effective finishes")
    for attempt in history.attempts.values():
        if attempt.settled_by != "complete" or attempt.settled_at is None:
            continue
        if attempt.started_at is None:
            yield Violation(
                "I2", "FINISHED_UNSTARTED", attempt.job, f"{attempt.tag} completed without a start"
            )
        elif attempt.ended_at is not None and attempt.ended_at - attempt.settled_at > CLOCKS_APART_S:
            early_ms = (attempt.ended_at - attempt.settled_at) * 1000
            detail = f"{attempt.tag} counted as completed {early_ms:.0f} ms before its end"
            yield Violation("I2", "FINISHED_EARLY", attempt.job, detail)


def starts_are_accounted_for(history: History) -> Iterator[Violation]:
    """I2: a job starts once, and again for each injected death and each retry that it asked for."""
    for job, attempts in history.attempts_of.items():
        starts = sum(attempt.started_at is not None for attempt in attempts)
        tale = history.tales.get(job)
        retries = tale.retries() if tale else 0
        if starts <= 1 + retries:
            continue
        deaths = history.interruptions(job)
        if starts > 1 + deaths + retries:
            detail = f"{starts} starts with {deaths} injected death(s) and {retries} retries"
            yield Violation("I2", "STARTED_TOO_OFTEN", job, detail)


def leases_hold(history: History) -> Iterator[Violation]:
    """I2: a lease is lost only by a fault that may cost one; a busy machine is none."""
    for attempt in history.attempts.values():
        if attempt.settled_by != "expire" or not attempt.worker:
            continue
        if not any(fault.interrupts(attempt) for fault in history.faults):
            detail = f"{attempt.tag} of {attempt.worker} was taken back for no reason"
            yield Violation("I2", "EXPIRED_FALSELY", attempt.job, detail)


def nothing_starts_early(history: History) -> Iterator[Violation]:
    """I9: what waits for a clock does not start before its time."""
    for job, tale in history.tales.items():
        if not tale.moves[0].get("due_at"):
            continue
        due_at = history.monotonic({"at": tale.moves[0]["due_at"]})
        for attempt in history.attempts_of.get(job, ()):
            early_s = due_at - (due_at if attempt.started_at is None else attempt.started_at)
            if early_s > CLOCKS_APART_S:
                yield Violation("I9", "STARTED_EARLY", job, f"{early_s * 1000:.0f} ms before it was due")


def limits_hold(history: History) -> Iterator[Violation]:
    """I3: at each start, no more run at a gate than its limit allows, by the tasks' own clocks."""
    running: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in history.starts:
        started_at = attempt.started_at or 0.0
        for gate in attempt.gates:
            running[gate] = [each for each in running[gate] if each.over_at > started_at]
            running[gate].append(attempt)
            since = _decided_at(history, attempt, PAUSE_WITHIN_S)
            most = _limit(history, gate, since, started_at)
            if most is not None and len(running[gate]) > most:
                others = " ".join(each.tag for each in running[gate])
                detail = f"{len(running[gate])} run where {most} may, at {started_at:.3f}: {others}"
                yield Violation("I3", "LIMIT_EXCEEDED", gate, detail)


def rates_hold(history: History) -> Iterator[Violation]:
    """I4: starts are no closer together than their bucket allows (GCRA, as in core/lua/shared/gates.lua)."""
    for family, (limit, period_s, burst) in history.run.get("rates", {}).items():
        interval_s = period_s / limit
        expected_at = float("-inf")
        times = sorted(_decided_at(history, each, 0.0) for each in history.starts if each.family == family)
        for at in times:
            early_s = expected_at - (burst - 1) * interval_s - at
            if early_s > RATE_JITTER_S + 1e-6:
                detail = f"a start at {at:.3f} is {early_s * 1000:.0f} ms too early"
                yield Violation("I4", "RATE_EXCEEDED", family, detail)
            expected_at = max(expected_at, at) + interval_s


def pauses_hold(history: History) -> Iterator[Violation]:
    """I5: nothing of a paused family starts later than 100 ms after the pause was acknowledged."""
    for acked_at, until, family in pauses(history):
        for attempt in history.starts_between(family, acked_at + PAUSE_WITHIN_S, until):
            started_at = attempt.started_at or 0.0
            if _decided_at(history, attempt, 0.0) > acked_at:
                late_ms = (started_at - acked_at) * 1000
                detail = f"{attempt.tag} started {late_ms:.0f} ms after {family} was paused"
                yield Violation("I5", "STARTED_WHILE_PAUSED", attempt.job, detail)


def counts_agree(history: History) -> Iterator[Violation]:
    """I7: what Redis counts as waiting or running is what the stream has not brought to its end."""
    for rest in history.rests:
        counted = sum(n for state, n in rest["by_state"].items() if state not in _FINAL)
        told = sum(tale.state not in _FINAL for tale in history.tales.values())
        if counted != told:
            yield Violation("I7", "COUNTS_DIFFER", "counts", f"{counted} by the counts, {told} by the stream")


def nothing_is_left(history: History) -> Iterator[Violation]:
    """I8: once all is quiet, nobody holds a place or a lease, and the audit finds nothing."""
    for rest in history.rests:
        if not rest["quiet"]:
            yield Violation(
                "I8", "NOT_QUIET", "queue", f"work was left when the wait ended: {rest['by_state']}"
            )
        for key, members in rest["left"].items():
            yield Violation("I8", "LEFT_OVER", key, f"{len(members)} left: {' '.join(members[:5])}")
        for found in rest["violations"]:
            yield Violation(found["invariant"], found["code"], found["subject"], f"audit: {found['detail']}")


def controls_are_recorded(history: History) -> Iterator[Violation]:
    """I11: every act that was acknowledged is in the stream."""
    acts: dict[tuple[str, str], int] = defaultdict(int)
    for move in history.moves:
        if not move.get("job"):
            acts[move["verb"], move.get("gate", "")] += 1
    for control in history.controls:
        if control["acked_at"] is not None and control["changed"]:
            name = (control["verb"], control["gate"])
            acts[name] -= 1
            if acts[name] < 0:
                yield Violation("I11", "NOT_IN_STREAM", name[1], f"{name[0]} was acknowledged, not recorded")


def pauses(history: History) -> Iterator[tuple[float, float, str]]:
    """Acknowledged at, in force until the resume was asked for, family: of each pause."""
    for number, control in enumerate(history.controls):
        if control["verb"] == "pause" and control["acked_at"] is not None:
            gate = control["gate"]
            later = history.controls[number + 1 :]
            ends = (each["asked_at"] for each in later if each["verb"] == "resume" and each["gate"] == gate)
            yield control["acked_at"], next(ends, float("inf")), gate.removeprefix("pause:family/")


def _decided_at(history: History, attempt: Attempt, tolerance_s: float) -> float:
    """When it was decided that an attempt starts: shortly before it did, but for a fault in between."""
    started_at = attempt.started_at or 0.0
    if attempt.claimed_at is not None and history.is_delayed(attempt):
        return min(attempt.claimed_at, started_at)
    return started_at - tolerance_s


def _limit(history: History, gate: str, since: float, until: float) -> int | None:
    """The highest limit that a gate had at some moment of a span of time."""
    limits: dict[str, int] = history.run.get("limits", {})
    base = gate.partition("=")[0]
    now = limits.get(gate, limits.get(base))
    if now is None:
        return None
    most = now
    for control in history.controls:
        if control["verb"] != "limit" or control["gate"] not in {gate, base}:
            continue
        if control["asked_at"] > until:
            break
        now, most = _after(control, since, now, most)
    return most


def _after(control: Line, since: float, now: int, most: int) -> tuple[int, int]:
    """The limit after an act, and the highest since a moment. Unanswered, it may have been done or not."""
    acked_at, value = control["acked_at"], int(control["value"])
    if acked_at is not None and acked_at < since:
        return value, value
    return (value if acked_at is not None else max(now, value)), max(most, now, value)


def faults_saw_nothing(history: History) -> Iterator[Violation]:
    """What a fault itself saw that must not be."""
    for seen in history.broken:
        yield Violation(seen["invariant"], seen["code"], seen["subject"], seen["detail"])
