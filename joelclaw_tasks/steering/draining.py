"""Draining: how far a drain has come, and lanes that must look at their gates again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.core.candidates import Candidates
from joelclaw_tasks.core.states import State
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.steering.results import Drained

#: More jobs than this are not counted one by one at every look.
_COUNTED = 20_000


class Draining:
    """One drain in force: `control` is its record in the core."""

    def __init__(self, store: Store, control: Mapping[str, Any]) -> None:
        self._store = store
        self._candidates = Candidates(store.client, store.keys)
        self.id = str(control["id"])
        self.gate = str(control["target"])
        self._actor = str(control["actor"])
        self._until_ms = int(control["value"])
        self._kind, _, self._name = self.gate.removeprefix("pause:").partition("/")

    @staticmethod
    def first_of(store: Store, gate: str) -> dict[str, Any] | None:
        """The job behind a pause gate that waits longest, of the first 1,000; None: none could start."""
        kind, _, name = gate.removeprefix("pause:").partition("/")
        candidates = Candidates(store.client, store.keys)

        def wanted(queue: str, family: str, handler: str) -> bool:
            return {"queue": queue, "family": family, "handler": handler}[kind] == name

        page = store.ask(lambda: next(candidates.pages({State.AVAILABLE}, wanted), []))
        return min(page, key=lambda job: (job["available_at"], job["id"]), default=None)

    def look(self) -> Drained:
        """Send lanes that wait at a pause or a rate to look again, and count what is left.

        Raises CoreUnreachable, and HeldByPerson for the observer.
        """
        for lanes in self._store.ask(
            lambda: list(self._candidates.parked_lanes(("pause:", "rate:"), self._wants))
        ):
            self._store.drain(self.gate, act=self.id, lanes=lanes, actor=self._actor, reason="")
        seen: Drained = self._store.ask(self._count)
        return seen

    def in_force(self) -> bool:
        """Whether it was neither undone nor has run out of time."""
        return any(act["id"] == self.id for act in self._store.controls())

    def _wants(self, queue: str, family: str, handler: str) -> bool:
        return {"queue": queue, "family": family, "handler": handler}[self._kind] == self._name

    def _count(self) -> Drained:
        waiting, looked_at, exact = 0, 0, True
        for page in self._candidates.pages({State.AVAILABLE}, self._wants):
            waiting += sum(job["admitted_at"] <= self._until_ms for job in page)
            looked_at += len(page)
            if looked_at >= _COUNTED:
                exact = False
                break
        running = sum(
            job["admitted_at"] <= self._until_ms and job[self._kind] == self._name
            for page in self._candidates.pages({State.EXECUTING}, self._wants)
            for job in page
        )
        return Drained(self.id, self.gate, waiting, running, exact=exact)
