"""Record: what a test saw happen, and assertions about it that say what happened instead."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.receipt import Receipt

Outcome = Literal["completed", "retried", "discarded", "cancelled"]


@dataclass(frozen=True, slots=True)
class Emitted:
    """One event that was accepted, and what was decided for each of its handlers."""

    name: str
    data: Mapping[str, Any]
    id: str
    source: str
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of one job. `result` is known to `inline` only; `error` is `Type: text`, or empty.

    `handler` is the task's name for a plain Celery task, which has no `data`; a batch has that of its last
    event. `attempt` counts from 1; a job that never ran has 0. `retry_in_s` is how long after a failure it
    waits, at most, for its next attempt.
    """

    handler: str
    job_id: str
    outcome: Outcome
    attempt: int
    data: Mapping[str, Any] | None = None
    result: Any = None
    error: str = ""
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Notified:
    """What a handler told the operator."""

    text: str
    cause: str
    severity: str
    change: str = ""


@dataclass
class Record:
    """What was emitted, told and run, in order. `data` of an assertion need not name every member."""

    _emitted: list[Emitted] = field(default_factory=list)
    _notified: list[Notified] = field(default_factory=list)
    _expected: set[tuple[str, int]] = field(default_factory=set)  # discarded jobs that the test knows of
    _guard: threading.Lock = field(default_factory=threading.Lock)

    # -- what happened ------------------------------------------------------------------------

    def emitted(self, name: str | None = None) -> list[Emitted]:
        """Every accepted event, or those of one name, by whomever."""
        with self._guard:
            return [one for one in self._emitted if name in (None, one.name)]

    def notified(self) -> list[Notified]:
        """Everything that handlers told the operator."""
        return list(self._notified)

    def runs(self, handler: str | None = None) -> list[Run]:
        """Every attempt that has ended, or those of one handler or Celery task."""
        return [run for run in self._runs() if handler in (None, run.handler)]

    def _runs(self) -> Sequence[Run]:
        return ()

    # -- assertions ---------------------------------------------------------------------------

    def assert_emitted(
        self, name: str, data: Mapping[str, Any] | None = None, *, times: int | None = None
    ) -> Emitted:
        """An event of this name with at least these members was emitted (`times` times); answers the first.

        Raises AssertionError, which shows what was emitted instead.
        """
        found = [one for one in self.emitted(name) if not _difference(data, one.data)]
        if times is not None and len(found) != times:
            count = f"was emitted {len(found)} times, not {times}"
            raise self._not_emitted(f"{_wanted(name, data)} {count}", data)
        if not found:
            raise self._not_emitted(f"{_wanted(name, data)} was not emitted", data)
        return found[0]

    def assert_not_emitted(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """No event of this name with these members was emitted. Raises AssertionError."""
        if any(not _difference(data, one.data) for one in self.emitted(name)):
            raise self._not_emitted(f"{_wanted(name, data)} was emitted", None)

    def assert_completed(self, handler: str, data: Mapping[str, Any] | None = None) -> Run:
        """A job of this handler (or Celery task) completed; answers its last run. Raises AssertionError."""
        return self._ended("completed", handler, data)[-1]

    def assert_discarded(
        self, handler: str, data: Mapping[str, Any] | None = None, *, error: str = ""
    ) -> Run:
        """A job of this handler went to the dead letter, with `error` in its error; answers its last run.

        Raises AssertionError. What is discarded and not expected by this fails the test at its end.
        """
        found = self._ended("discarded", handler, data, error)
        self._expected.update((run.job_id, run.attempt) for run in found)
        return found[-1]

    def _ended(
        self, outcome: Outcome, handler: str, data: Mapping[str, Any] | None, error: str = ""
    ) -> list[Run]:
        runs = self.runs()
        found = [
            run
            for run in runs
            if (run.outcome, run.handler) == (outcome, handler)
            and not _difference(data, run.data)
            and error in run.error
        ]
        if not found:
            wanted = _wanted(handler, data) + (f" and the error {error!r}" if error else "")
            raise AssertionError(
                _listing(f"no job of {wanted} was {outcome}", "what ran", [_shown(run) for run in runs])
            )
        return found

    def check(self) -> None:
        """Raise AssertionError when something was discarded that no `assert_discarded` expected."""
        unexpected = [
            _shown(run)
            for run in self.runs()
            if run.outcome == "discarded" and (run.job_id, run.attempt) not in self._expected
        ]
        if unexpected:
            raise AssertionError(
                _listing("jobs failed for good that no assert_discarded expected", "they are", unexpected)
            )

    def _not_emitted(self, complaint: str, data: Mapping[str, Any] | None) -> AssertionError:
        lines = []
        for one in self.emitted():
            wrong = _difference(data, one.data)
            lines.append(f"{one.name} {dict(one.data)!r:.300}" + (f"  ({wrong})" if wrong else ""))
        return AssertionError(_listing(complaint, "what was emitted", lines))

    # -- for those who fill it ----------------------------------------------------------------

    def note_notification(self, text: str, *, cause: str, severity: str = "info", change: str = "") -> None:
        """`deps.notify` of a handler under test."""
        self._notified.append(Notified(text, cause, severity, change))

    def note_emitted(self, events: Sequence[NewEvent], receipts: Sequence[Receipt]) -> None:
        """These events were accepted."""
        with self._guard:
            self._emitted.extend(
                Emitted(new.name, new.data, receipt.event_id, new.source, receipt)
                for new, receipt in zip(events, receipts, strict=True)
            )


class RecordingEmitter(Emitter):
    """An emitter that notes what it emitted in a record."""

    record: Record

    def emit_many(self, events: Iterable[NewEvent]) -> list[Receipt]:
        """Emit, and note what was accepted."""
        events = list(events)
        receipts = super().emit_many(events)
        self.record.note_emitted(events, receipts)
        return receipts


def _difference(wanted: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> str:
    """What keeps `found` from having every member of `wanted`, or an empty string."""
    wrong = []
    for name, value in (wanted or {}).items():
        if found is None or name not in found:
            wrong.append(f"no {name}")
        elif found[name] != value:
            wrong.append(f"{name} is {found[name]!r:.100}, not {value!r:.100}")
    return ", ".join(wrong)


def _wanted(name: str, data: Mapping[str, Any] | None) -> str:
    return f"{name!r}" + (f" with {dict(data)!r:.300}" if data else "")


def _shown(run: Run) -> str:
    data = f" {dict(run.data)!r:.200}" if run.data is not None else ""
    retry = f", again in {run.retry_in_s:g} s at most" if run.retry_in_s is not None else ""
    error = f": {run.error}" if run.error else ""
    return f"{run.handler}{data} {run.outcome} in attempt {run.attempt}{retry}{error}"


def _listing(complaint: str, heading: str, lines: Sequence[str]) -> str:
    return f"{complaint}; {heading}:" + ("".join(f"\n  {line}" for line in lines) or " nothing")
