"""Desk: where diagnoses are made: evidence is collected, the failure held, a model asked, a person told.

The record stands before the question is asked, so that a process that dies in between leaves a trace, and the
failure stays held: nobody pays for it again within a day.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from joelclaw_tasks.core.diagnoses import ALL, HOLD_MS, Diagnoses
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable, UnknownDiagnosis
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.diagnosis.ask import diagnose
from joelclaw_tasks.intelligence.diagnosis.collect import Collector
from joelclaw_tasks.intelligence.diagnosis.evidence import Evidence, Exhibit, Subject
from joelclaw_tasks.intelligence.diagnosis.records import (
    cause_of,
    held_by,
    past_exhibit,
    state_of,
    told,
    without_secrets,
)
from joelclaw_tasks.intelligence.diagnosis.rules import nothing_failed
from joelclaw_tasks.intelligence.diagnosis.subjects import subject_of, suspects
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.notify.notification import Button, verdict_buttons
from joelclaw_tasks.registry import Registry

logger = logging.getLogger(__name__)

ACTOR = "triggers"

#: Suspects that one look at the triggers goes through. It makes one diagnosis: the next look is soon enough.
_MOST_SUSPECTS = 50
#: When a model could not be asked and nothing was paid, it is tried again after this.
RETRY_MS = 3_600_000
#: As long as models are switched off, there is nothing to try again for.
_OFF = {Reason.DISABLED.value, Reason.NO_KEY.value}
_MOST_PAST, _PAST_LOOKED_AT = 3, 50

Tell = Callable[..., object]
Say = Callable[[str], object]


class Made(NamedTuple):
    """A diagnosis as it is kept. `is_new` False: another one holds the failure, and this is it."""

    record: dict[str, Any]
    is_new: bool


class Desk:
    """Makes diagnoses of one fleet. `models` is called when a question is asked, not before.

    Raises CoreUnreachable.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry | None,
        collector: Collector,
        models: Callable[[], ModelClient],
        tell: Tell,
    ) -> None:
        self._store = store
        self._registry = registry
        self._collector = collector
        self._models = models
        self._tell = tell
        self.diagnoses = Diagnoses(store)

    def look(self) -> dict[str, Any] | None:
        """Diagnose the first that deserves it, and tell a person; answers its record, None when none does."""
        for subject, why in islice(suspects(self._store, self.diagnoses, self._registry), _MOST_SUSPECTS):
            done = None
            if not self._is_held(subject):
                done = self._make(subject, why=why, actor=ACTOR, instead_of="", say=_silent)
            self.diagnoses.seen_to(subject.name)
            if done is not None and done.is_new:
                self._report(done.record)
                return done.record
        return None

    def diagnose(self, name: str, *, actor: str, again: bool = False, say: Say | None = None) -> Made:
        """Diagnose what a person names. What was paid for within a day is shown again, unless `again`.

        `say` hears what is being done. Raises UnknownTarget.
        """
        subject = subject_of(name, self._store, self._registry)
        instead_of = ALL if again else None
        return self._make(subject, why="asked for", actor=actor, instead_of=instead_of, say=say or _silent)

    def _make(self, subject: Subject, *, why: str, actor: str, instead_of: str | None, say: Say) -> Made:
        """`instead_of` None: of one that nothing was paid for."""
        models = self._models()
        say("collecting evidence")
        evidence = self._collector.collect(subject, self._past(subject))
        free, held = held_by(evidence)
        if instead_of is None:
            instead_of = self._unpaid(free)
        record = {
            "at": evidence.taken_at, "state": "asking", "actor": actor, "why": why,
            "evidence": evidence.model_dump(mode="json"), "diagnosis": None,
        }  # fmt: skip
        id, began = self.diagnoses.begin(record, free=free, hold=held, instead_of=instead_of)
        if not began:
            return Made(self._known(id, evidence), is_new=False)
        if evidence.signatures:
            say("asking a model; this may take some minutes")
            found = without_secrets(diagnose(evidence, models))
        else:
            found = nothing_failed(evidence)
        ended = {**record, "state": state_of(found), "diagnosis": found.model_dump(mode="json")}
        hold_ms = HOLD_MS if found.paid or found.fallback in _OFF else RETRY_MS
        try:
            self.diagnoses.end(id, ended, held=held, hold_ms=hold_ms)
        except CoreUnreachable as error:
            # It was paid for: whoever waits for it shall have it all the same.
            logger.error("the diagnosis %s could not be kept: %s", id, error)
        return Made({"id": id, **ended, "verdict": None}, is_new=True)

    def _known(self, id: str, evidence: Evidence) -> dict[str, Any]:
        try:
            return self.diagnoses.get(id)
        except UnknownDiagnosis:  # many others were made since
            return {
                "id": id, "at": evidence.taken_at, "state": "gone", "actor": "", "why": "",
                "evidence": evidence.model_dump(mode="json"), "diagnosis": None, "verdict": None,
            }  # fmt: skip

    def _is_held(self, subject: Subject) -> bool:
        """Whether it is held for sure, before evidence is collected."""
        return bool(subject.signature) and self.diagnoses.holder([subject.signature]) is not None

    def _unpaid(self, free: list[str]) -> str:
        """The diagnosis that holds this without having cost anything: a person need not wait for its end."""
        id = self.diagnoses.holder(free)
        if id is None:
            return ""
        try:
            known = self.diagnoses.get(id)
        except UnknownDiagnosis:
            return id
        found = known["diagnosis"]
        return id if found is not None and not found["paid"] else ""

    def _past(self, subject: Subject) -> list[Exhibit]:
        """Earlier diagnoses of the same family or signature, with what people thought of them."""
        about = [
            each
            for each in self.diagnoses.recent(_PAST_LOOKED_AT)
            if each["diagnosis"] is not None and _is_about(each["evidence"]["subject"], subject)
        ]
        return [past_exhibit(each) for each in about[:_MOST_PAST]]

    def _report(self, record: Mapping[str, Any]) -> None:
        if not record["evidence"]["signatures"]:
            return  # nothing has failed
        if record["state"] == "fallback" and self._was_told(record):
            return  # a model that is away for a day is one message, not one an hour
        try:
            self._tell(
                told(record), cause=cause_of(record), severity="warning", change="opened",
                buttons=_buttons_of(record),
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # the diagnosis stands, whoever cannot be told
            logger.warning("nobody could be told of %s: %s", record["id"], type(error).__name__)

    def _was_told(self, record: Mapping[str, Any]) -> bool:
        free, _ = held_by(Evidence.model_validate(record["evidence"]))
        return any(
            each["id"] != record["id"]
            and each["actor"] == ACTOR
            and record["at"] - each["at"] < HOLD_MS
            and not set(free).isdisjoint(held_by(Evidence.model_validate(each["evidence"]))[0])
            for each in self.diagnoses.recent(_PAST_LOOKED_AT)
        )


def _buttons_of(record: Mapping[str, Any]) -> tuple[Button, ...]:
    """A verdict is asked for where there is something to judge."""
    if record["diagnosis"] is None or not record["diagnosis"]["candidates"]:
        return ()
    return verdict_buttons(record["id"])


def _is_about(other: Mapping[str, Any], subject: Subject) -> bool:
    same = bool(subject.signature) and other["signature"] == subject.signature
    return same or (bool(subject.family) and other["family"] == subject.family)


def _silent(doing: str) -> None:
    """Nobody watches."""
