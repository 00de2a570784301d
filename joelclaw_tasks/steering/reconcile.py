"""Reconcile: what spools, results and the stream know, and a Redis that lost its last does not.

`find` only reads. `mend` puts right what can be, so that a second time nothing is left to do: an event is
sent again under its own id, so its jobs are there once, and a cancelled job can be brought back by undo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.core.unended import Unended
from joelclaw_tasks.replay import replay
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import Spool
from joelclaw_tasks.steering.ended_jobs import EndedJobs
from joelclaw_tasks.steering.findings import Reconciled
from joelclaw_tasks.steering.lost_events import LostEvents
from joelclaw_tasks.steering.outcomes import Outcomes

if TYPE_CHECKING:
    from celery import Celery


class Reconcile:
    """One comparison: `find` or `mend`, once. `say` hears what it does, `stop` ends it between two steps.

    `app` has the results, by default those in the fleet's Redis. Both raise CoreUnreachable, and
    RegistryError when events are lost and the registry has faults.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        app: Celery | None = None,
        spools: Sequence[Path] = (),
        say: Callable[[str], object] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._settings = settings
        self._say, self._stop = say, stop
        self._done = Reconciled(looked_at=dict.fromkeys(("waiting", "sent", "jobs", "results", "entries"), 0))
        paths = dict.fromkeys(spools or (settings.spool_file,))
        self._spools = [LostEvents(store, settings, Spool(path), self._done) for path in paths]
        self._outcomes = Outcomes.of_app(app) if app is not None else Outcomes.of_fleet(settings)
        self._ended = EndedJobs(store, self._outcomes, self._done)

    def find(self) -> Reconciled:
        """What does not fit, by kind, with what would be done. Changes nothing."""
        for spool in self._spools:
            self._say(f"reading {spool.path}")
            spool.find()
        with self._outcomes:
            if self._outcomes.are_kept:
                self._ended.find(self._say, self._stop)
            else:
                self._done.unchecked.append("results: this app keeps none")
            self._find_gone()
        self._done.interrupted = self._stop()
        return self._done

    def mend(self, *, actor: str, reason: str) -> Reconciled:
        """`find`, and put right what can be: in the stream first, with actor and reason."""
        done = self.find()
        done.applied = True
        if done.mendable and not self._stop():
            counts = ", ".join(
                f"{finding.count} {finding.kind}" for finding in done.findings if finding.would
            )
            done.control = self._store.reconcile(actor=actor, reason=reason, target=counts)
            self._cancel_ended(actor, reason)
            self._send_events()
        done.interrupted = self._stop()
        return done

    def _find_gone(self) -> None:
        self._say("reading the history")
        unended = Unended(self._store.client, self._store.keys)
        for entry in self._store.history.read():
            self._done.saw("entries")
            unended.note(entry)
        gone = self._store.ask(lambda: unended.gone(self._store.history))
        told = {job for spool in self._spools for job in spool.jobs}
        told |= self._outcomes.of([last.job for last in gone]).keys()
        for last in gone:
            if last.job not in told:
                self._done.note("gone", id=last.job, family=last.family, state=last.to_state, at=last.at)

    def _cancel_ended(self, actor: str, reason: str) -> None:
        acts: dict[str, str] = {}
        for state, ids in self._ended.to_cancel():
            if self._stop():
                break
            self._say(f"cancelling jobs that have ended: {self._done.of('ran').mended}")
            acts[state] = self._ended.cancel(state, ids, act=acts.get(state, ""), actor=actor, reason=reason)
        self._done.cancelled = list(acts.values())

    def _send_events(self) -> None:
        for spool in self._spools:
            for step in spool.to_send():
                if self._stop():
                    return
                self._say(f"sending lost events again: {self._done.of('lost').mended}")
                spool.send(step)
            if spool.waiting and not self._stop():
                self._say(f"sending {spool.waiting} events that wait")
                self._done.of("waiting").mended += replay(self._settings, spool=spool.path).sent
