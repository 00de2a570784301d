"""Seeing: what the queue knows, as plain values. The reading half of `Queue`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from joelclaw_tasks.core.states import FINAL, State
from joelclaw_tasks.steering.job_verbs import JobVerbs
from joelclaw_tasks.steering.results import Control, as_json


class Seeing(JobVerbs):
    """The part of `Queue` that only reads. Times are epoch milliseconds."""

    def depth(self) -> dict[str, Any]:
        """How much waits, by family, priority, state and queue, and what is shut: see core/view.py."""
        return self.store.snapshot()

    def list(self, limit: int = 10, *, where: str | None = None) -> list[dict[str, Any]]:
        """The first waiting jobs in the order in which they would start; or, unordered, any that match."""
        if where is None:
            return self.store.list_jobs(limit)
        found: list[dict[str, Any]] = []
        for page in self._select(None, where, set(State) - FINAL).pages():
            found.extend(map(as_json, page))
            if len(found) >= limit:
                break
        return found[:limit]

    def inspect(self, job_id: str) -> dict[str, Any]:
        """Everything known of one job. Raises UnknownJob."""
        return self.store.inspect(job_id)

    def explain(self, name: str) -> dict[str, Any]:
        """Why a job, an event or a family is not running and when it will, or where its time went.

        `kind` says which; an event has its `jobs`. Raises UnknownJob.
        """
        from joelclaw_tasks.core.explain import Explainer

        explainer = Explainer(self.store)
        known = explainer.knows(name)
        if known == "family":
            return {"kind": "family", **explainer.family(name)}
        if known is None:
            jobs = [each for each in self._names().jobs_of_event(name) if explainer.knows(each)]
            if jobs:
                return {"kind": "event", "event_id": name, "jobs": [explainer.job(each) for each in jobs]}
        return {"kind": "job", **explainer.job(name)}

    def stats(self, hours: float = 24, *, limit: int = 20) -> dict[str, Any]:
        """What the last hours add up to, at most `limit` rows of each listing: see telemetry/stats.py."""
        from joelclaw_tasks.telemetry.stats import stats

        since_at = self.store.now_ms() - int(hours * 3_600_000)
        entries = self.store.history.read(since_at=max(0, since_at))
        return stats(entries, slack_ms=self.settings.slack_ms, limit=limit)

    def simulate(
        self,
        *,
        pause: Sequence[str] = (),
        limit: Mapping[str, int] | None = None,
        arrivals: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Play the queue forward under a change: when it drains, and who waits longer.

        `pause` names families, handlers or queues, `limit` gates, `arrivals` families: their jobs a second.
        Raises UnknownTarget, and NothingMeasured when no job has run lately.
        """
        from joelclaw_tasks.core.what_if import Change, WhatIf

        names = self._names()
        pauses = tuple(names.pause_gate(each) for each in pause)
        limits = {names.bound_gate("limit", gate): most for gate, most in (limit or {}).items()}
        slack_ms = self.settings.slack_ms[self.settings.default_priority]
        return WhatIf(self.store).simulate(Change(pauses, limits, dict(arrivals or {})), slack_ms)

    def audit(self) -> dict[str, Any]:
        """Whether what is in Redis fits together: `violations`, empty when it does. See core/audit.py."""
        from joelclaw_tasks.core.audit import Audit

        return Audit(self.store).run().to_wire()

    def controls(self) -> Sequence[Control]:
        """What is in force, oldest first."""
        return [Control.of(act) for act in self.store.controls()]

    def acts(self) -> Sequence[Control]:
        """The newest acts, at most 1,000, oldest first."""
        return [Control.of(act) for act in self.store.acts()]
