"""Queue: see and steer what waits, from Python. The command line and the Celery tasks are made of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.states import WAITING
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import NotPaused, UnknownControl
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.dead_verbs import DeadVerbs
from joelclaw_tasks.steering.draining import Draining
from joelclaw_tasks.steering.findings import Reconciled
from joelclaw_tasks.steering.job_verbs import Ttl
from joelclaw_tasks.steering.names import gate_among
from joelclaw_tasks.steering.results import Control, Drained, Undone
from joelclaw_tasks.steering.seeing import Seeing
from joelclaw_tasks.steering.ttl import LONGEST_PAUSE_MS, parse_ttl_ms
from joelclaw_tasks.steering.where import Where

if TYPE_CHECKING:
    from celery import Celery


class Queue(Seeing, DeadVerbs):
    """The queue of one fleet.

    Every verb takes `reason`, and `actor` unless the queue has one; both are kept with the act. Jobs are
    chosen by `target` (an id of a job or an event, the name of a family, handler or queue) and `where` (see
    steering/where.py). A ttl is `60s`, `10m`, `2h`, `1d` or seconds.

    Raises CoreUnreachable, and what each verb names.
    """

    @classmethod
    def connect(cls, settings: Settings | None = None, *, actor: str | None = None) -> Queue:
        """The queue that the settings name, by default those of the environment. Raises SettingsError."""
        settings = settings or Settings.load()
        return cls(Store.connect(settings), settings, actor=actor)

    # -- gates --------------------------------------------------------------------------------

    def pause(self, name: str, *, ttl: Ttl = "15m", reason: str = "", actor: str | None = None) -> Control:
        """Hold back a family, handler or queue for 60 s to 24 h, or (None) until it is resumed.

        Raises UnknownTarget, InvalidTtl and HeldByPerson.
        """
        ttl_ms = parse_ttl_ms(ttl, LONGEST_PAUSE_MS)
        gate = self._names().pause_gate(name)
        record = self.store.pause(gate, actor=self._by(actor), reason=reason, ttl_ms=ttl_ms)
        return self._act(str(record["control"]))

    def pause_where(
        self,
        where: str,
        *,
        ttl: Ttl = "15m",
        reason: str = "",
        actor: str | None = None,
        dry_run: bool = False,
    ) -> Sequence[Control] | Sequence[str]:
        """`pause` every family that has a waiting job which matches. A dry run answers their gates."""
        parse_ttl_ms(ttl, LONGEST_PAUSE_MS)
        families = {
            f"pause:family/{job['family']}"
            for page in self._select(None, where, WAITING).pages()
            for job in page
        }
        if dry_run:
            return sorted(families)
        return [self.pause(gate, ttl=ttl, reason=reason, actor=actor) for gate in sorted(families)]

    def resume(self, name: str, *, reason: str = "", actor: str | None = None) -> Control:
        """Let a paused family, handler or queue go again.

        Raises UnknownTarget, NotPaused and HeldByPerson.
        """
        names = self._names()
        gate = gate_among(name, [each["gate"] for each in names.snapshot["pauses"]]) or names.pause_gate(name)
        if self.store.resume(gate, actor=self._by(actor), reason=reason) is None:
            raise NotPaused(f"{gate} is not paused")
        return self._newest("resume", gate)

    def resume_where(
        self, where: str, *, reason: str = "", actor: str | None = None, dry_run: bool = False
    ) -> Sequence[Control] | Sequence[str]:
        """`resume` every pause that matches. Fields: gate, kind, name, actor, reason, age."""
        chosen = _PauseFilter(where)
        now_ms = self.store.now_ms()
        gates = [each["gate"] for each in self.store.snapshot()["pauses"] if chosen.takes(each, now_ms)]
        if dry_run:
            return gates
        return [self.resume(gate, reason=reason, actor=actor) for gate in gates]

    def limit(
        self, gate: str, most: int | None, *, ttl: Ttl = None, reason: str = "", actor: str | None = None
    ) -> Control | None:
        """Let at most so many jobs pass a gate at once (None: any number), over what the registry says.

        None when that is its limit already. Raises UnknownTarget, InvalidGate, InvalidTtl and HeldByPerson.
        """
        ttl_ms = parse_ttl_ms(ttl)
        resolved = self._names().bound_gate("limit", gate)
        by = self._by(actor)
        changed = self.store.limit({resolved: most}, actor=by, reason=reason, ttl_ms=ttl_ms)
        return self._newest("limit", resolved) if changed else None

    def rate(
        self, gate: str, rate: Rate | None, *, ttl: Ttl = None, reason: str = "", actor: str | None = None
    ) -> Control | None:
        """Let a gate start jobs at this rate (None: any), over what the registry says; as `limit`."""
        ttl_ms = parse_ttl_ms(ttl)
        resolved = self._names().bound_gate("rate", gate)
        changed = self.store.rate({resolved: rate}, actor=self._by(actor), reason=reason, ttl_ms=ttl_ms)
        return self._newest("rate", resolved) if changed else None

    def drain(
        self,
        name: str,
        *,
        ttl: Ttl = "1h",
        reason: str = "",
        actor: str | None = None,
        wait: bool = True,
        on_progress: Callable[[Drained], object] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        every_s: float = 0.25,
    ) -> Drained:
        """Let out what waits now behind a name: its pauses and rates open for that, its limits hold.

        Waits until none of it waits or runs, and then ends the drain; with `wait` False, or once `stop()` is
        true, the drain goes on by itself until its ttl. Raises UnknownTarget, InvalidTtl and HeldByPerson.
        """
        ttl_ms = parse_ttl_ms(ttl)
        gate = self._names().pause_gate(name)
        by = self._by(actor)
        draining = Draining(self.store, self.store.drain(gate, actor=by, reason=reason, ttl_ms=ttl_ms))
        while True:
            seen = draining.look()
            on_progress(seen)
            if seen.exact and not seen.waiting and not seen.running:
                if draining.in_force():
                    self.store.undo(draining.id, actor=by, reason="drained")
                return replace(seen, done=True)
            if not wait or stop():
                return replace(seen, interrupted=wait)
            if not draining.in_force():
                return seen
            time.sleep(every_s)

    def probe(
        self, name: str, *, ttl: Ttl = "60s", reason: str = "", actor: str | None = None
    ) -> Control | None:
        """Let the first waiting job behind a pause start, and none but it, to see how it goes.

        None when nothing waits there that could start. Raises UnknownTarget, InvalidTtl and HeldByPerson.
        """
        ttl_ms = parse_ttl_ms(ttl)
        gate = self._names().pause_gate(name)
        job = Draining.first_of(self.store, gate)
        if job is None:
            return None
        by = self._by(actor)
        act = self.store.drain(
            gate, actor=by, reason=reason, ttl_ms=ttl_ms, job=job["id"], lanes=[job["lane"]]
        )
        return Control.of(act)

    # -- what was done ------------------------------------------------------------------------

    def undo(
        self,
        control: str | None = None,
        *,
        reason: str = "",
        actor: str | None = None,
        on_progress: Callable[[Undone], object] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Undone:
        """Take an act back, by default the actor's last one that can be.

        Raises UnknownControl, CannotUndo and HeldByPerson.
        """
        by = self._by(actor)
        if control is None:
            control = self._last_of(by)
        jobs = 0
        while True:
            act, went_back, left = self.store.undo(control, actor=by, reason=reason)
            jobs += went_back
            undone = Undone(Control.of(act), jobs, left)
            on_progress(undone)
            if not left or stop():
                return undone

    # -- what Redis lost ----------------------------------------------------------------------

    def reconcile(
        self,
        *,
        apply: bool = False,
        app: Celery | None = None,
        spools: Sequence[Path] = (),
        reason: str = "",
        actor: str | None = None,
        on_progress: Callable[[str], object] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Reconciled:
        """Find what spools, results and the stream know and Redis does not; `apply` mends what can be.

        `app` has the results (default: those in this Redis), `spools` are files of producers (default: the
        one of the settings). See steering/reconcile.py. Raises RegistryError when events are lost and the
        registry has faults.
        """
        from joelclaw_tasks.steering.reconcile import Reconcile

        compared = Reconcile(self.store, self.settings, app=app, spools=spools, say=on_progress, stop=stop)
        return compared.mend(actor=self._by(actor), reason=reason) if apply else compared.find()

    def _act(self, control: str) -> Control:
        return next(act for act in reversed(self.acts()) if act.id == control)

    def _newest(self, verb: str, target: str) -> Control:
        return next(act for act in reversed(self.acts()) if (act.verb, act.target) == (verb, target))

    def _last_of(self, actor: str) -> str:
        in_force = {act.id for act in self.controls()}
        for act in reversed(self.acts()):
            if act.actor != actor or act.undone_at is not None:
                continue
            if act.id in in_force or act.verb == "resume" or self.store.has_touched(act.id):
                return act.id
        raise UnknownControl(f"{actor} has done nothing that could be undone")


class _PauseFilter(Where):
    """The same language over pauses."""

    fields = ("gate", "kind", "name", "family", "handler", "queue", "actor", "reason", "age")

    def takes(self, pause: dict[str, Any], now_ms: int) -> bool:
        kind, _, name = str(pause["gate"]).removeprefix("pause:").partition("/")
        return self.matches(
            {**pause, "kind": kind, "name": name, kind: name, "available_at": int(pause["paused_at"])}, now_ms
        )
